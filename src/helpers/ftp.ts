// FTP (RFC 959, RFC 2428): the data connection that each PORT, EPRT, PASV or EPSV leads to (nf_conntrack_ftp.c,
// nf_nat_ftp.c). The client's PORT and EPRT name an endpoint of the client, the server's 227 and 229 one of the server;
// the expected connection comes from the other one, from any port.
//
// Whatever looks like a command must not open a hole, so a control connection has to be one from its first byte on:
//
//   1. The server speaks first, and greets (220, or 120 and then 220).
//   2. Every line of the client begins with a command of FTP. The first that doesn't ends the help for good: a request
//      of HTTP, mail or TLS ends it with its first line, wherever segments are cut and whatever its body says.
//   3. A 227 or 229 is taken if the client has asked for it, and as a reply of its own: what a multi-line reply
//      contains (a greeting, a listing by STAT) is text.
//   4. The address is the sender's own, the port none below 1024, unless options say otherwise.
//
// Owner: the state belongs to a connection, and with it to its shard.

import { type Helper, type HelperContext, type Line, Verdict } from './helper.ts'
import { extendedPassive, extendedPort, hostPort, type Notation, type Written } from './notations.ts'

export interface FtpOptions {
  /**
   * A server outside may name another address than its own in a 227 (servers that keep data elsewhere do). Of anybody
   * else it is never taken: that is FTP bounce.
   */
  readonly loose?: boolean
  /** Data ports below 1024 are taken. */
  readonly privileged?: boolean
}

interface Control {
  /** The server has greeted. */
  greeted: boolean
  /** The code of the multi-line reply in hand; empty between replies. */
  reply: string
  /** How many PASV (227) and EPSV (229) the client has sent that are not answered by one. */
  readonly asked: { '227': number; '229': number }
}

const FIRST_UNPRIVILEGED = 1024
/** As many as are counted: more than are ever under way. */
const MOST_ASKED = 16

/** RFC 959, 765, 775, 1639, 2228, 2389, 2428, 2640, 3659, 7151, and what servers and clients have added. */
const COMMANDS = new Set(
  `USER PASS ACCT CWD CDUP SMNT REIN QUIT PORT PASV TYPE STRU MODE RETR STOR STOU APPE ALLO REST RNFR RNTO ABOR DELE RMD
   MKD PWD LIST NLST SITE SYST STAT HELP NOOP LPRT LPSV AUTH ADAT PBSZ PROT CCC MIC CONF ENC FEAT OPTS EPRT EPSV LANG
   MDTM SIZE MLST MLSD HOST CLNT MFMT MFCT MFF MACB CPSV SPSV SSCN PRET HASH RANG MD5 MMD5 COMB CSID DSIZ AVBL THMB ESTA
   ESTP RMDA UTF8`.split(/\s+/),
)
/** RFC 1123, 4.1.3.1: what begins with X is an experiment. */
const EXPERIMENT = /^X[A-Z0-9]{2,9}$/
const LONGEST_COMMAND = 10

/** Telnet's own commands may come before one of FTP: an ABOR is announced by them (RFC 959, 4.1.3). */
const FIRST_WORD = /^(?:\xff[\xf1-\xf9]){0,4}([A-Za-z][A-Za-z0-9]*)( |$)/
const PART_OF_FIRST_WORD = /^(?:\xff[\xf1-\xf9]){0,4}(?:\xff|([A-Za-z][A-Za-z0-9]*)?\r?)$/
const ASKS_227 = /^(?:PASV|CPSV) ?$/i
/** EPSV ALL is a promise, EPSV 2 asks for IPv6: neither is answered by a 229 that concerns us. */
const ASKS_229 = /^EPSV(?: 1)? ?$/i
const PART_OF_ASKING = /^(?:PASV|CPSV|EPSV(?: 1)?) ?\r?$/i
const REPLY = /^(\d\d\d)([ -]|$)/
const PART_OF_REPLY = /^\d{0,3}\r?$/

interface Form {
  readonly head: string
  readonly notation: Notation
}
const PORT: Form = { head: 'PORT ', notation: hostPort }
const EPRT: Form = { head: 'EPRT ', notation: extendedPort }
const PASSIVE: Form = { head: '227 ', notation: hostPort }
const EXTENDED_PASSIVE: Form = { head: '229 ', notation: extendedPassive }

export const ftp = (options: FtpOptions = {}): Helper<Control> => ({
  name: 'ftp',
  tuple: { proto: 'tcp', dstPort: 21 },
  maxExpected: 1,
  expectTimeoutSeconds: 300,

  state: () => ({ greeted: false, reply: '', asked: { '227': 0, '229': 0 } }),

  help(ctx) {
    if (ctx.direction === 'original' && !ctx.state.greeted) {
      ctx.done()
      return Verdict.Accept
    }
    const read = ctx.direction === 'original' ? readCommand : readReply
    const couldBecome = ctx.direction === 'original' ? couldBecomeCommand : couldBecomeReply
    for (const line of ctx.lines((partial) => couldBecome(ctx, partial))) read(ctx, line, options)
    return Verdict.Accept
  },
})

// --- the client ---

/** The command that a line begins with, in capitals; undefined if it is none of FTP. */
function commandOf(line: string): string | undefined {
  const word = FIRST_WORD.exec(line)?.[1]?.toUpperCase()
  return word !== undefined && (COMMANDS.has(word) || EXPERIMENT.test(word)) ? word : undefined
}

function readCommand(ctx: HelperContext<Control>, line: Line, options: FtpOptions): void {
  const command = commandOf(line.text)
  if (command === undefined) ctx.done()
  else if (ASKS_227.test(line.text)) ask(ctx.state, '227')
  else if (ASKS_229.test(line.text)) ask(ctx.state, '229')
  else readPort(ctx, line, options)
}

function readPort(ctx: HelperContext<Control>, line: Line, options: FtpOptions): void {
  const form = formOf(line.text)
  const found = form?.notation.read(line.text, form.head.length)
  if (found?.end === line.text.length) announce(ctx, line, found, options)
}

function ask({ asked }: Control, code: '227' | '229'): void {
  if (asked[code] < MOST_ASKED) asked[code]++
}

function formOf(line: string): Form | undefined {
  const head = line.slice(0, PORT.head.length).toUpperCase()
  return head === PORT.head ? PORT : head === EPRT.head ? EPRT : undefined
}

/** Held are a first word that isn't complete (ten bytes, Telnet's aside) and the beginning of a PORT or EPRT. */
function couldBecomeCommand(ctx: HelperContext<Control>, partial: string): boolean {
  const part = PART_OF_FIRST_WORD.exec(partial)
  if (part) return isStartOfCommand(part[1]?.toUpperCase() ?? '') || notFtp(ctx)
  if (commandOf(partial) === undefined) return notFtp(ctx)
  if (PART_OF_ASKING.test(partial)) return true
  const form = formOf(partial)
  if (!form) return false
  const whole = withoutReturn(partial)
  const { notation, head } = form
  if (notation.read(whole, head.length)?.end === whole.length) return true
  return whole === partial && notation.begins(partial, head.length)
}

function isStartOfCommand(word: string): boolean {
  if (word.length > LONGEST_COMMAND) return false
  if (word === '' || (word[0] === 'X' && word.length <= LONGEST_COMMAND)) return true
  for (const command of COMMANDS) if (command.startsWith(word)) return true
  return false
}

function notFtp(ctx: HelperContext<Control>): false {
  ctx.done()
  return false
}

const withoutReturn = (text: string): string => (text.endsWith('\r') ? text.slice(0, -1) : text)

// --- the server ---

function readReply(ctx: HelperContext<Control>, line: Line, options: FtpOptions): void {
  const code = takeReply(ctx, line.text)
  if (code === '' || ctx.state.asked[code] === 0) return
  const form = code === '227' ? PASSIVE : EXTENDED_PASSIVE
  const at = notationAt(line.text, code)
  const found = at < 0 ? undefined : form.notation.read(line.text, at)
  if (found && (form !== EXTENDED_PASSIVE || line.text[found.end] === ')')) {
    if (announce(ctx, line, found, options)) ctx.state.asked[code]--
  }
}

/**
 * Where the endpoint is written in a reply; -1 if nowhere. RFC 959 doesn't say how a 227 is to be parsed: of the ways
 * of RFC 1123, 4.1.2.6, the digits are looked for. A 229 has its parentheses (RFC 2428 section 3).
 */
function notationAt(reply: string, code: '227' | '229'): number {
  const head = code === '227' ? PASSIVE.head : EXTENDED_PASSIVE.head
  const found = reply.slice(head.length).search(code === '227' ? /\d/ : /\(/)
  return found < 0 ? -1 : head.length + found + (code === '227' ? 0 : 1)
}

/**
 * Follows the replies, of which the beginning of each line says where they begin and end. Returns 227 or 229 if that
 * line is such a reply, whole and of one line.
 */
function takeReply(ctx: HelperContext<Control>, line: string): '227' | '229' | '' {
  const { state } = ctx
  if (state.reply !== '') {
    if (REPLY.exec(line)?.[1] === state.reply && line[3] !== '-') state.reply = ''
    return ''
  }
  const [, code = '', more] = REPLY.exec(line) ?? []
  if (!state.greeted) {
    if (code === '220') state.greeted = true
    else if (code !== '120') ctx.done()
  }
  if (more === '-') state.reply = code
  return more === ' ' && (code === '227' || code === '229') ? code : ''
}

/** Held are a code that isn't complete (four bytes) and the beginning of a 227 or 229 that was asked for. */
function couldBecomeReply(ctx: HelperContext<Control>, partial: string): boolean {
  const { state } = ctx
  if (PART_OF_REPLY.test(partial)) {
    return state.reply === '' || state.reply.startsWith(withoutReturn(partial))
  }
  if (state.reply === '' && state.greeted && couldBecomePassive(state, partial)) return true
  takeReply(ctx, partial)
  return false
}

function couldBecomePassive({ asked }: Control, partial: string): boolean {
  const code = partial.slice(0, 3)
  if ((code !== '227' && code !== '229') || partial[3] !== ' ') return false
  if (asked[code] === 0) return false
  const at = notationAt(partial, code)
  if (at < 0) return true
  const { notation } = code === '227' ? PASSIVE : EXTENDED_PASSIVE
  const found = notation.read(partial, at)
  if (!found) return notation.begins(partial, at)
  return code === '227' || partial[found.end] === undefined || partial[found.end] === ')'
}

// --- both ---

/** The expectation, and what the other side must be told. False if there is none. */
function announce(
  ctx: HelperContext<Control>,
  line: Line,
  { address, port, at, length, as }: Written,
  { loose = false, privileged = false }: FtpOptions,
): boolean {
  const own = ctx.tuple.src.address
  const isElsewhere = address !== undefined && address !== own
  if (isElsewhere && !(loose && ctx.direction === 'reply')) return false
  if (!ctx.established || (port < FIRST_UNPRIVILEGED && !privileged)) return false
  const announced = ctx.expect(isElsewhere ? { port, address } : { port })
  if (!announced) return false
  const asIs = announced.port === port && (address === undefined || announced.address === address)
  if (asIs || ctx.mangle(line.at + at, length, as(announced))) return true
  ctx.unexpect(announced.handle)
  return false
}
