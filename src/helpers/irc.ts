// IRC (RFC 1459, RFC 2812; message tags of IRCv3): direct connections between clients (DCC), which one client offers to
// another by a message through the server (nf_conntrack_irc.c, nf_nat_irc.c). Who accepts comes from anywhere.
//
//   :nick!user@host PRIVMSG friend :\x01DCC SEND holiday.jpg 167772165 40000 81920\x01
//
// What the client inside sends: SEND, CHAT, MOVE, TSEND and SCHAT name its own address and a port on which it waits. A
// port of 0 (reverse DCC: "I can't be reached, let me come to you", with a token) only gets its address rewritten; who
// answers it, by the same line with a port and the token, makes an ordinary offer. RESUME, which asks for the rest of a
// file, names the port that was offered: it reaches the client by the port that the client knows, and its ACCEPT the
// other end by the port that the other end knows.
//
// A connection has to be IRC from its first byte: the client's first line is a command of registration, each of its
// lines is a message, and what the server says first is one too. The first line that isn't ends the help for good.
//
// Owner: the state belongs to a connection, and with it to its shard.

import { type Helper, type HelperContext, type Line, Verdict } from './helper.ts'
import { wordAndPort } from './notations.ts'

interface Session {
  /** The client's first line was a command of registration; the server's was a message. */
  begun: boolean
  answered: boolean
  /** Ports offered, newest last: as the client knows them, as its friends do. */
  readonly offered: { own: number; told: number }[]
}

const MOST_OFFERS = 8
const FIRST_UNPRIVILEGED = 1024
/** A message is at most 512 bytes (RFC 1459, 2.3): a first line that has no command by then is none. */
const LONGEST_MESSAGE = 512

const REGISTRATION = new Set(['CAP', 'PASS', 'NICK', 'USER', 'AUTHENTICATE', 'WEBIRC', 'STARTTLS', 'PROTOCTL'])
const OFFERS = ['SEND', 'CHAT', 'MOVE', 'TSEND', 'SCHAT']
const RESUME = ['RESUME']
const ACCEPT = ['ACCEPT']

/** Tags and prefix, then the command: letters, or a numeric of three digits. */
const MESSAGE = /^(?:@[^ ]+ +)?(?::[^ ]+ +)?([A-Za-z]{1,16}|\d{3})( |$)/
const PART_OF_MESSAGE = /^(?:@[^ ]*|(?:@[^ ]+ +)?(?::[^ ]*|(?::[^ ]+ +)?(?:[A-Za-z]{0,16}|\d{1,3})\r?))$/
/** From the command's end on: to whom, then the text, which begins with CTCP's mark. */
const TO_WHOM = /^ *[^ :][^ ]* +:/
const PART_OF_TO_WHOM = /^ *(?:[^ :][^ ]*(?: +)?)?$/
const DCC = '\x01DCC '
/** A file's name, in quotes if there are blanks in it. */
const NAME = /^ *(?:"[^"]*"|[^ "][^ ]*) +/
const PART_OF_NAME = /^ *(?:"[^"]*"?|[^ "][^ ]*)?$/
const PORT = /^\d{1,5}/
const PART_OF_PORT = /^\d{0,5}$/

export interface IrcOptions {
  /** Ports below 1024 may be offered. */
  readonly privileged?: boolean
}

export const irc = ({ privileged = false }: IrcOptions = {}): Helper<Session> => ({
  name: 'irc',
  tuple: { proto: 'tcp', dstPort: 6667 },
  maxExpected: MOST_OFFERS,
  expectTimeoutSeconds: 300,

  state: () => ({ begun: false, answered: false, offered: [] }),

  help(ctx) {
    for (const line of ctx.lines((partial) => couldBecome(ctx, partial))) {
      const command = begin(ctx, line.text)
      if (command === undefined) ctx.done()
      else if (isMessage(command)) readMessage(ctx, line, privileged ? 1 : FIRST_UNPRIVILEGED)
    }
    return Verdict.Accept
  },
})

/**
 * The command of a message, '' for an empty line, which RFC 1459 (2.3.1) asks to ignore. Undefined if the line shows
 * that this is no IRC; of the server's lines only the first has to be a message.
 */
function begin({ direction, state }: HelperContext<Session>, line: string): string | undefined {
  if (line === '') return ''
  const command = MESSAGE.exec(line)?.[1]?.toUpperCase()
  if (direction === 'original') {
    if (command !== undefined && REGISTRATION.has(command)) state.begun = true
    return state.begun ? command : undefined
  }
  if (command !== undefined) state.answered = true
  return state.answered ? (command ?? '') : undefined
}

const isMessage = (command: string): boolean => command === 'PRIVMSG' || command === 'NOTICE'

function readMessage(ctx: HelperContext<Session>, line: Line, lowest: number): void {
  const dcc = readDcc(line.text)
  if (!dcc) return
  const { type, argumentsAt } = dcc
  if (ctx.direction === 'original' && OFFERS.includes(type)) offer(ctx, line, argumentsAt, lowest)
  else if (ctx.direction === 'original' && ACCEPT.includes(type)) rename(ctx, line, argumentsAt, 'own')
  else if (ctx.direction === 'reply' && RESUME.includes(type)) rename(ctx, line, argumentsAt, 'told')
}

/** The type of a DCC message, and where what follows the name is. */
function readDcc(text: string): { type: string; argumentsAt: number } | undefined {
  let at = MESSAGE.exec(text)![0].length
  const whom = TO_WHOM.exec(text.slice(at))
  if (!whom) return undefined
  at += whom[0].length
  if (!text.startsWith(DCC, at)) return undefined
  at += DCC.length
  const blank = text.indexOf(' ', at)
  if (blank < 0) return undefined
  const type = text.slice(at, blank)
  const name = NAME.exec(text.slice(blank))
  return name ? { type, argumentsAt: blank + name[0].length } : undefined
}

function offer(ctx: HelperContext<Session>, line: Line, argumentsAt: number, lowest: number): void {
  const { at: lineAt, text } = line
  const { state, tuple, translated } = ctx
  const found = wordAndPort.read(text, argumentsAt)
  if (!found || !isEnd(text[found.end]) || !ctx.established || !state.answered) return
  const { address, port, at, length, as } = found
  // Clients that know of the translation name the address that they are seen with; both are nobody else's.
  const isOwn = address === tuple.src.address || address === translated.src.address
  if (!isOwn) return
  if (port === 0) {
    const told = translated.src.address
    if (told !== address) ctx.mangle(lineAt + at, length, as({ address: told, port }))
    return
  }
  const announced = port < lowest ? undefined : ctx.expect({ port, from: 'anyone' })
  if (!announced) return
  const isAsWritten = announced.port === port && announced.address === address
  if (isAsWritten || ctx.mangle(lineAt + at, length, as(announced))) remember(state, port, announced.port)
  else ctx.unexpect(announced.handle)
}

function remember({ offered }: Session, own: number, told: number): void {
  const known = offered.findIndex((each) => each.own === own)
  if (known >= 0) offered.splice(known, 1)
  if (offered.length === MOST_OFFERS) offered.shift()
  offered.push({ own, told })
}

/** A port offered before, by its other name. */
function rename(ctx: HelperContext<Session>, line: Line, at: number, from: 'own' | 'told'): void {
  const digits = portIn(line.text.slice(at))
  const known = ctx.state.offered.findLast((each) => each[from] === Number(digits))
  const to = from === 'own' ? 'told' : 'own'
  if (known && known.own !== known.told) ctx.mangle(line.at + at, digits.length, String(known[to]))
}

/** The digits of a port that `text` begins with; empty if it doesn't. */
function portIn(text: string): string {
  const digits = PORT.exec(text)?.[0] ?? ''
  return isEnd(text[digits.length]) ? digits : ''
}

const isEnd = (character: string | undefined): boolean =>
  character === undefined || character === ' ' || character === '\x01'

/** Held are what comes before the text of a message, and the beginning of a DCC message that would be read. */
function couldBecome(ctx: HelperContext<Session>, partial: string): boolean {
  const { direction, state } = ctx
  if (PART_OF_MESSAGE.test(partial)) {
    const mayBeIrc = state.begun || partial.length <= LONGEST_MESSAGE
    if (!mayBeIrc) ctx.done()
    return mayBeIrc
  }
  const command = begin(ctx, partial)
  if (command === undefined) ctx.done()
  if (command === undefined || !isMessage(command)) return false
  if (direction === 'reply' && state.offered.length === 0) return false
  const types = direction === 'original' ? [...OFFERS, ...ACCEPT] : RESUME
  return isStartOfDcc(partial.slice(MESSAGE.exec(partial)![0].length), types)
}

function isStartOfDcc(text: string, types: readonly string[]): boolean {
  const whom = TO_WHOM.exec(text)
  if (!whom) return PART_OF_TO_WHOM.test(text)
  const message = text.slice(whom[0].length)
  if (!message.startsWith(DCC)) return DCC.startsWith(message)
  const said = message.slice(DCC.length)
  const blank = said.indexOf(' ')
  if (blank < 0) return types.some((type) => type.startsWith(said))
  if (!types.includes(said.slice(0, blank))) return false
  const rest = said.slice(blank)
  const name = NAME.exec(rest)
  if (!name) return PART_OF_NAME.test(rest)
  const numbers = rest.slice(name[0].length)
  if (!OFFERS.includes(said.slice(0, blank))) return PART_OF_PORT.test(numbers) || portIn(numbers) !== ''
  const found = wordAndPort.read(numbers, 0)
  return found ? isEnd(numbers[found.end]) : wordAndPort.begins(numbers, 0)
}
