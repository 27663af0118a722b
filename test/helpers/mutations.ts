// Real sessions with bytes gone wrong, and what has to hold of whatever comes of them. Everything is drawn from a seed,
// so that what a long run finds can be played again.

import { MOST_HELD } from '../../src/datapath/helped/limits.ts'
import { CLIENT, EXTERNAL, type Expectation, type Played } from '../../src/testing/helper-script.ts'
import type { Dialogue, Said } from './dialogues.ts'

export type Random = (below: number) => number

/** Marsaglia's xorshift, 32 bits; for tests it is random enough. */
export function randomOf(seed: number): Random {
  let state = (seed ^ 0x9e3779b9) | 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

const ALPHABET = ['\r', '\n', '\r\n', ' ', ',', '.', '|', ':', '"', '(', ')', '-', '\x01', '\0', '\xff', '0', '1', '9']
const WORDS = ['PORT ', 'EPRT ', 'PASV\r\n', 'EPSV\r\n', '227 ', '229 (', '220-', 'PRIVMSG ', 'DCC SEND ', '@a ', ':b ']
const ENDPOINTS = ['10,0,0,9,156,64', '10,0,0,5,156,64', '|1|10.0.0.9|40000|', '167772169 40000', '167772165 40000']
const NUMBERS = ['0', '255', '256', '1023', '65535', '65536', '4294967295', '4294967296', '99999999999', '010']

/** One change to a text. */
function changed(text: string, random: Random): string {
  const at = random(text.length + 1)
  const pick = (list: readonly string[]): string => list[random(list.length)]!
  const insert = (what: string): string => text.slice(0, at) + what + text.slice(at)
  switch (random(9)) {
    case 0:
      return text.slice(0, at) + String.fromCharCode(random(256)) + text.slice(at + 1)
    case 1:
      return insert(pick(ALPHABET))
    case 2:
      return insert(pick(WORDS))
    case 3:
      return insert(pick(ENDPOINTS))
    case 4:
      return text.slice(0, at) + text.slice(at + 1 + random(4))
    case 5:
      return insert(text.slice(at, at + 1 + random(20)))
    case 6:
      return text.slice(0, at)
    case 7: {
      const numbers = [...text.matchAll(/\d+/g)]
      const number = numbers[random(Math.max(numbers.length, 1))]
      return number ? text.slice(0, number.index) + pick(NUMBERS) + text.slice(number.index + number[0].length) : text
    }
    default:
      return insert(String.fromCharCode(random(256)).repeat(random(700)))
  }
}

/** One to four changes to what is said, who says it, or in which order. */
export function mutated(dialogue: Dialogue, random: Random): Dialogue {
  const mutant: Said[] = [...dialogue]
  for (let changes = 1 + random(4); changes > 0; changes--) {
    const at = random(mutant.length)
    const [who, bytes] = mutant[at]!
    const kind = random(12)
    if (kind === 0) mutant[at] = [who === 'original' ? 'reply' : 'original', bytes]
    else if (kind === 1) mutant.splice(random(mutant.length), 0, mutant[at]!)
    else if (kind === 2 && mutant.length > 1) mutant.splice(at, 1)
    else mutant[at] = [who, changed(bytes, random)]
  }
  return mutant
}

/** The same bytes in pieces of other lengths. */
export function recut(dialogue: Dialogue, random: Random): Dialogue {
  const cut: Said[] = []
  for (const [who, bytes] of dialogue) {
    const longest = 1 + random(40)
    for (let at = 0; at < bytes.length; ) {
      const length = 1 + random(longest)
      cut.push([who, bytes.slice(at, at + length)])
      at += length
    }
  }
  return cut
}

/** What must not be, in words. */
export function faultsOf(script: Played): string[] {
  const faults: string[] = []
  const own = { original: script.ownAddress('original'), reply: script.ownAddress('reply') }
  for (const { from, to } of script.everExpected) {
    const address = to.slice(0, to.indexOf(':'))
    if (address !== (from === 'client' ? own.reply : own.original)) faults.push(`expects ${from} at ${to}`)
  }
  if (script.mostHeld > MOST_HELD) faults.push(`held ${script.mostHeld} bytes`)
  for (const { was, is } of script.edits)
    if (!isIntended(numbersOf(was), numbersOf(is), script.everExpected)) faults.push(`${was} became ${is}`)
  for (const direction of ['original', 'reply'] as const) {
    const { sent, received } = { sent: script.sent(direction), received: script.received(direction) }
    const edits = script.edits.filter((edit) => edit.direction === direction)
    if (undone(received + script.held(direction), sent, edits) !== sent) faults.push(`${direction}: bytes were changed`)
  }
  return faults
}

const numbersOf = (text: string): string => (text.match(/\d+/g) ?? []).map(Number).join(' ')

/** An endpoint announced became the one told, in any notation; or one of the two ports the other. */
function isIntended(was: string, is: string, expectations: readonly Expectation[]): boolean {
  const reverse = numbersInWord(CLIENT.address)
  if (is === `${numbersInWord(EXTERNAL)} 0`) return was === `${reverse} 0`
  return expectations.some(({ to, told }) => {
    const [from, into] = [notations(to), notations(told)]
    // A client may have named the address that it is seen with.
    const seen = notations(`${told.slice(0, told.indexOf(':'))}${to.slice(to.indexOf(':'))}`)
    return from.some((each, i) => (each === was || seen[i] === was) && into[i] === is) || isRenamed(was, is, to, told)
  })
}

const isRenamed = (was: string, is: string, to: string, told: string): boolean =>
  was === told.slice(told.indexOf(':') + 1) && is === to.slice(to.indexOf(':') + 1)

function notations(endpoint: string): string[] {
  const [address = '', digits] = endpoint.split(':')
  const port = Number(digits)
  const octets = address.replaceAll('.', ' ')
  return [`${octets} ${port >> 8} ${port & 255}`, `${octets} ${port}`, `${numbersInWord(address)} ${port}`, `${port}`]
}

const numbersInWord = (address: string): number =>
  address.split('.').reduce((word, each) => word * 256 + Number(each), 0)

/** The received stream with each edit taken back, in order. */
function undone(received: string, sent: string, edits: readonly { was: string; is: string }[]): string {
  let text = received
  let at = 0
  for (const { was, is } of edits) {
    while (
      at < sent.length &&
      !(sent.startsWith(was, at) && text.startsWith(is, at) && text.slice(0, at) === sent.slice(0, at))
    )
      at++
    text = text.slice(0, at) + was + text.slice(at + is.length)
    at += was.length
  }
  return text
}
