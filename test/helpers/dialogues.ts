// What clients and servers say to each other: whole sessions as real programs hold them, and how to play them, in any
// pieces. 10.0.0.5 is the client and 192.0.2.7 the server unless a test says otherwise (helper-script.ts).

import type { Direction, Helper } from '../../src/helpers/helper.ts'
import {
  type Edit,
  type Expectation,
  type Played,
  Script,
  type ScriptOptions,
} from '../../src/testing/helper-script.ts'

export type Said = readonly [who: Direction, bytes: string]
export type Dialogue = readonly Said[]

export const client = (...lines: string[]): Said => ['original', lines.map((line) => `${line}\r\n`).join('')]
export const server = (...lines: string[]): Said => ['reply', lines.map((line) => `${line}\r\n`).join('')]

export interface Outcome {
  readonly toServer: string
  readonly toClient: string
  readonly expected: readonly Expectation[]
  readonly edits: readonly Edit[]
}

export const outcomeOf = (script: Played): Outcome => ({
  toServer: script.received('original') + script.held('original'),
  toClient: script.received('reply') + script.held('reply'),
  expected: script.everExpected,
  edits: script.edits,
})

export function play(helper: Helper, dialogue: Dialogue, options: ScriptOptions = {}): Script {
  const script = new Script(helper, options)
  for (const [who, bytes] of dialogue) script.say(who, bytes)
  return script
}

/** Where the segments end, as counts of bytes; the rest is one more. */
export function inPieces([who, bytes]: Said, lengths: readonly number[]): Dialogue {
  const pieces: Said[] = []
  let at = 0
  for (const length of lengths) {
    if (at + length >= bytes.length) break
    pieces.push([who, bytes.slice(at, at + length)])
    at += length
  }
  return [...pieces, [who, bytes.slice(at)]]
}

/** The dialogue once for each place where one of its segments can be cut in two, and once a byte at a time. */
export function* everyCut(dialogue: Dialogue): Generator<Dialogue> {
  for (const [i, said] of dialogue.entries())
    for (let cut = 1; cut < said[1].length; cut++)
      yield [...dialogue.slice(0, i), ...inPieces(said, [cut]), ...dialogue.slice(i + 1)]
  yield dialogue.flatMap((said) =>
    inPieces(
      said,
      Array.from(said[1], () => 1),
    ),
  )
}

export const FTP_LOGIN: Dialogue = [
  server('220-Welcome to the archive', '  227 files were added since yesterday', '220 (vsFTPd 3.0.3)'),
  client('USER anonymous'),
  server('331 Please specify the password.'),
  client('PASS lftp@'),
  server('230 Login successful.'),
]

export const FTP_ACTIVE: Dialogue = [
  ...FTP_LOGIN,
  client('SYST'),
  server('215 UNIX Type: L8'),
  client('TYPE I'),
  server('200 Switching to Binary mode.'),
  client('PORT 10,0,0,5,156,64'),
  server('200 PORT command successful. Consider using PASV.'),
  client('LIST'),
  server('150 Here comes the directory listing.', '226 Directory send OK.'),
  client('EPRT |1|10.0.0.5|40002|'),
  server('200 EPRT command successful. Consider using EPSV.'),
  client('RETR a.txt'),
  server('150 Opening BINARY mode data connection for a.txt (12 bytes).'),
  server('226 Transfer complete.'),
  client('QUIT'),
  server('221 Goodbye.'),
]

export const FTP_PASSIVE: Dialogue = [
  ...FTP_LOGIN,
  client('FEAT'),
  server('211-Features:', ' EPRT', ' EPSV', ' MDTM', ' PASV', ' SIZE', ' UTF8', '211 End'),
  client('OPTS UTF8 ON'),
  server('200 Always in UTF8 mode.'),
  client('PASV'),
  server('227 Entering Passive Mode (192,0,2,7,195,80).'),
  client('MLSD'),
  server('150 Here comes the directory listing.', '226 Directory send OK.'),
  client('EPSV'),
  server('229 Entering Extended Passive Mode (|||50002|).'),
  client('STOR b.txt'),
  server('150 Ok to send data.'),
  server('226 Transfer complete.'),
  client('QUIT'),
  server('221 Goodbye.'),
]

/** The same server behind the NAT: 10.0.0.5 is the server. */
export const FTP_PASSIVE_INSIDE: Dialogue = FTP_PASSIVE.map(([who, bytes]) => [
  who,
  bytes.replace('192,0,2,7', '10,0,0,5'),
])

export const IRC_LOGIN: Dialogue = [
  client('CAP LS 302', 'NICK anna', 'USER anna 0 * :Anna'),
  server(':irc.example NOTICE * :*** Looking up your hostname...', ':irc.example CAP * LS :message-tags'),
  client('CAP REQ :message-tags', 'CAP END'),
  server(':irc.example CAP anna ACK :message-tags', ':irc.example 001 anna :Welcome'),
]

export const IRC_SESSION: Dialogue = [
  ...IRC_LOGIN,
  client('JOIN #natloom'),
  server(':anna!a@gw JOIN #natloom', 'PING :irc.example'),
  client('PONG :irc.example', 'PRIVMSG #natloom :hello there'),
  client('PRIVMSG bert :\x01DCC SEND holiday.jpg 167772165 40000 81920\x01'),
  server(':bert!b@far PRIVMSG anna :\x01DCC RESUME holiday.jpg 40000 4096\x01'),
  client('PRIVMSG bert :\x01DCC ACCEPT holiday.jpg 40000 4096\x01'),
  client('@+draft/reply=1 NOTICE bert :\x01DCC CHAT chat 167772165 40001\x01'),
  client('PRIVMSG bert :\x01DCC SEND "two words.txt" 167772165 0 512 77\x01'),
  server(':bert!b@far PRIVMSG anna :\x01DCC SEND other.txt 3221226087 4000 512\x01'),
  client('QUIT :bye'),
  server('ERROR :Closing link'),
]

export const TFTP_SESSION: Dialogue = [
  ['original', '\x00\x01pxelinux.0\x00octet\x00blksize\x001428\x00tsize\x000\x00'],
  ['original', '\x00\x02config.txt\x00netascii\x00'],
]
