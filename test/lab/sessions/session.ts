// A scripted session: who says what, a segment or a datagram by each write. Texts have placeholders for ports, because
// each session has ports of its own:
//
//   {P}  in decimal         {p}  as FTP's two octets         {P1} {p1} .. {P9} {p9}  the next ones
//
//   inside    10.0.0.2    10,0,0,2      167772162
//   gateway   203.0.113.1               3405803777
//   outside   203.0.113.2 203,0,113,2   3405803778

export type Who = 'client' | 'server'
/** Several texts are segments that are sent in a row. */
export type Said = readonly [who: Who, ...segments: string[]]
export type Service = 'ftp' | 'irc' | 'tftp'

export interface Session {
  /** Unique. */
  readonly name: string
  readonly service: Service
  /** The server is inside, reached by a port forward, and the client is outside. */
  readonly serverInside?: boolean
  readonly script: readonly Said[]
}

export const SERVICE_PORTS: Readonly<Record<Service, number>> = { ftp: 21, irc: 6667, tftp: 69 }

/** Ports that a session may name, {P} to {P9}. */
export const PORTS_OF_ONE = 10

export const c = (...lines: string[]): Said => ['client', lines.map((line) => `${line}\r\n`).join('')]
export const s = (...lines: string[]): Said => ['server', lines.map((line) => `${line}\r\n`).join('')]
/** Texts as they are, without an end of line. */
export const part = (who: Who, ...segments: string[]): Said => [who, ...segments]

/** The text with the session's ports in place of its placeholders. */
export const filled = (text: string, first: number): string =>
  text.replace(/\{([Pp])(\d?)\}/g, (_, form: string, after: string) => {
    const port = first + Number(after)
    return form === 'P' ? String(port) : `${port >> 8},${port & 0xff}`
  })
