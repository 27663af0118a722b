// Builds captures for tests: TCP conversations as a host inside sees them, frame by frame.

import { frame } from '../../src/testing/builder.ts'
import { pcap, type Written } from '../io/captures.ts'

export interface End {
  readonly address: string
  readonly port: number
}

const BEGAN = 1_700_000_000

/** Frames, a millisecond apart; a test may let more time go by. */
export class Story {
  readonly frames: Written[] = []
  /** What the ends' first numbers are raised by: one that opens anew is ahead of its last connection. */
  readonly ahead: number
  #milliseconds = 0

  constructor(ahead = 0) {
    this.ahead = ahead
  }

  add(bytes: Uint8Array): void {
    this.#milliseconds++
    this.frames.push({
      seconds: BEGAN + Math.floor(this.#milliseconds / 1000),
      fraction: (this.#milliseconds % 1000) * 1000,
      bytes,
    })
  }

  wait(seconds: number): void {
    this.#milliseconds += seconds * 1000
  }

  /** A connection that one end opens; both have shaken hands. */
  connect(opener: End, other: End): Tcp {
    return new Tcp(this, opener, other)
  }

  get pcap(): Buffer {
    return pcap(this.frames)
  }
}

class Tcp {
  readonly #story: Story
  readonly #ends: readonly [End, End]
  /** What each end sends next. */
  readonly #next: [number, number]

  constructor(story: Story, opener: End, other: End) {
    this.#story = story
    this.#ends = [opener, other]
    this.#next = [1000 + story.ahead, 5000 + story.ahead]
    this.send(0, '', 'S')
    this.send(1, '', 'SA')
    this.send(0, '')
  }

  /** 0: who has opened it; 1: the other end. */
  send(who: 0 | 1, text: string, flags = text === '' ? 'A' : 'PA'): this {
    const [from, to] = [this.#ends[who], this.#ends[1 - who]!]
    this.#story.add(
      frame({
        ip: { src: from.address, dst: to.address, dontFragment: true },
        tcp: {
          sport: from.port,
          dport: to.port,
          seq: this.#next[who]!,
          ack: flags === 'S' ? 0 : this.#next[1 - who]!,
          flags,
        },
        payload: text,
      }),
    )
    this.#next[who]! += text.length + (/[SF]/.test(flags) ? 1 : 0)
    return this
  }

  /** Says a line, and the other end acknowledges. */
  say(who: 0 | 1, line: string): this {
    return this.send(who, `${line}\r\n`).send((1 - who) as 0 | 1, '')
  }

  close(): this {
    return this.send(1, '', 'FA').send(0, '', 'FA').send(1, '')
  }
}

export const CLIENT: End = { address: '10.0.0.5', port: 50_003 }
export const SERVER: End = { address: '192.0.2.7', port: 21 }

/** One session with an active and a passive transfer. */
export function ftpSession(client = CLIENT): Story {
  const story = new Story((client.port - CLIENT.port) * 10_000)
  const control = story.connect(client, SERVER)
  control.say(1, '220 ready').say(0, 'USER anonymous').say(1, '230 in')
  control
    .say(0, `PORT ${client.address.replaceAll('.', ',')},156,64`)
    .say(1, '200 ok')
    .say(0, 'LIST')
  const active = story.connect({ ...SERVER, port: 20 }, { ...client, port: 40_000 })
  active.say(0, 'a listing').close()
  control.say(1, '226 done').say(0, 'PASV').say(1, '227 Entering Passive Mode (192,0,2,7,156,65)')
  const passive = story.connect({ ...client, port: client.port + 1 }, { ...SERVER, port: 40_001 })
  passive.say(1, 'a file').close()
  control.say(1, '226 done').say(0, 'QUIT').close()
  return story
}
