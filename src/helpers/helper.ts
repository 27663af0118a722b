// What a helper is: an object that reads one kind of connection, announces the connections that it will lead to
// (expectations), and rewrites the addresses that its protocol carries. It stands for the pair of modules of Harald
// Welte's "Netfilter connection tracking and nat helper modules" (2000); README.md has the correspondence,
// docs/helper-tutorial.md is a tutorial. Types only, and the few words they need: a helper imports nothing else.
//
// What a helper may rely on:
//
//   streams     a TCP connection is read as two ordered streams, each from its first byte; UDP as whole datagrams.
//               Never a packet from the middle of a connection, never a fragment, never the same bytes twice.
//   threads     it runs in the shard that owns the connection, one call at a time; several shards each have a copy of
//               the module. Where the expected connection will land, it never knows.
//   faults      what it throws is caught and counted: the flow goes on without it, and ends if what it was to rewrite
//               would go out as it is (README.md, When a helper fails). So it is if its calls take longer
//               than 100 ms of processor time, again within a minute (datapath/helped/call-budget.ts).
// What it must not: keep `ctx` or anything got from it beyond the call; wait for anything.

export type Protocol = 'tcp' | 'udp'

/** Dotted decimal, 0 to 65535. */
export interface Endpoint {
  readonly address: string
  readonly port: number
}

export interface Tuple {
  readonly protocol: Protocol
  readonly src: Endpoint
  readonly dst: Endpoint
}

/**
 * Which connections: as the server sees them, behind all translation. What is left out is not compared; what is present
 * is compared as a whole, unless a mask says which bits.
 */
export interface HelperTuple {
  readonly proto: Protocol
  readonly dstPort?: number
  readonly dstAddress?: string
  readonly srcPort?: number
  readonly srcAddress?: string
}

/** The bits of a tuple that count: ports as 16-bit masks (0xfffe: a pair), addresses as netmasks. */
export interface HelperMask {
  readonly dstPort?: number
  readonly dstAddress?: string
  readonly srcPort?: number
  readonly srcAddress?: string
}

/** What a helper says of the bytes, or of the packet, that it was called for (NF_ACCEPT, NF_DROP). */
export const Verdict = { Accept: 'accept', Drop: 'drop' } as const
export type Verdict = (typeof Verdict)[keyof typeof Verdict]

/** What `expected` says of a connection that has come. */
export const Expected = {
  /** The connection was expected, and is translated as its master was: the default. */
  Follow: 'follow',
  /** The connection is another one: the expectation stays, the packet goes on as if there were none. */
  NotMine: 'not-mine',
  /** The packet is dropped, the expectation stays. */
  Drop: 'drop',
} as const
export type Expected = (typeof Expected)[keyof typeof Expected]

/** A kind of expectation, with limits of its own: of SIP signalling is one, audio another. */
export interface ExpectClass {
  readonly name: string
  /** How many one connection may expect at a time, 1 to 255; one more makes the oldest go. */
  readonly maxExpected: number
  /** Seconds that an expectation waits for its connection, 1 to 65535. */
  readonly timeoutSeconds: number
}

export interface Helper<State = unknown> {
  /** Unique; a letter, then letters, digits and hyphens, at most 15 in all. It names the helper in listings. */
  readonly name: string
  readonly tuple: HelperTuple
  readonly mask?: HelperMask
  /** The limits of a helper with one kind of expectation (see ExpectClass); by default 1 and 300. */
  readonly maxExpected?: number
  readonly expectTimeoutSeconds?: number
  /** The kinds of expectation of a helper that has several, at most four. */
  readonly classes?: readonly ExpectClass[]

  /** The state of a new connection; `ctx.state` is what this has returned. It is lost when the shard starts again. */
  state?(): State

  /**
   * Called with each stretch of new bytes of a TCP stream, with each datagram of UDP. Returning nothing is to accept.
   * Drop drops the packet: of a TCP stream the sender will send the same bytes again, so it rarely is what one wants.
   */
  // biome-ignore lint/suspicious/noConfusingVoidType: a method without a return statement has this type, not undefined.
  help(ctx: HelperContext<State>): Verdict | void

  /**
   * Called with the first packet of a connection that this helper has expected. Without this function, and if it throws
   * (which is reported and counted), the answer is Expected.Follow.
   */
  expected?(child: Child, master: Master): Expected
}

/** A module that a configuration names exports one of these by default; `options` come from the configuration. */
export type HelperModule = Helper | ((options: Readonly<Record<string, unknown>>) => Helper)

export type Direction = 'original' | 'reply'

/**
 * What the packet is to its connection (enum ip_conntrack_info). Packets of the original direction are 'new' until
 * something has come back, or 'related' if the connection was expected; what comes back is a '-reply'.
 */
export type CtInfo = 'new' | 'related' | 'established' | 'related-reply' | 'established-reply'

/** Where netfilter would translate this packet: its source on the way out, its destination on the way in. */
export type Hook = 'prerouting' | 'postrouting'

export interface Announcement {
  /** Where the announced connection goes: a port of the sender of the bytes being read, at its own address. */
  readonly port: number
  /** Default: the protocol of this connection. */
  readonly protocol?: Protocol
  /** Where it comes from: the peer of this connection (default), or anyone. */
  readonly from?: 'peer' | 'anyone'
  /** Default: any. */
  readonly fromPort?: number
  /** Its class, by number in `classes`; default 0. */
  readonly class?: number
  /** Stays when a connection has come (IP_CT_EXPECT_PERMANENT). */
  readonly permanent?: boolean
  /** Lets nothing in until activate() (NF_CT_EXPECT_INACTIVE). */
  readonly inactive?: boolean
  /** The helper of the expected connection, by name; default none. */
  readonly helper?: string
  /** Default: the class's. */
  readonly timeoutSeconds?: number
  /**
   * Another address than the sender's own. Only a sender outside may name one, since what is behind the NAT must be
   * opened by its owner: from an inside sender it is refused.
   */
  readonly address?: string
}

/** An expectation that stands. */
export interface Announced extends Endpoint {
  /**
   * What the peer must be told: `address` and `port` are as the peer reaches it. The same as announced if untranslated.
   */
  readonly address: string
  readonly port: number
  /** For unexpect() and activate(). */
  readonly handle: number
}

/** A line of a stream, without its end; `at` is where it begins in `ctx.text`. */
export interface Line {
  readonly at: number
  readonly text: string
}

export interface HelperContext<State = unknown> {
  /** 'original': from who opened the connection. */
  readonly direction: Direction
  readonly info: CtInfo
  readonly hook: Hook
  /**
   * Packets have passed both ways, and of TCP the handshake is complete. Before that nothing can be expected; but what
   * the client of a UDP protocol asks may announce at once, since its answer may be the expected connection (TFTP).
   */
  readonly established: boolean
  /** The tuple of the packet in hand as its sender sent it, and as its receiver gets it. */
  readonly tuple: Tuple
  readonly translated: Tuple
  readonly state: State

  /**
   * The bytes to be read, a character each (latin1): of a stream all that have come in order and were not accepted, of
   * UDP the datagram. What was held for longer than a second has gone on: it stays here, but can't be rewritten.
   */
  readonly text: string
  /** Nothing follows: the sender has closed. */
  readonly ended: boolean

  /**
   * The lines that are complete (ended by LF or CR LF) in `text`, one by one; what went on before is never seen again.
   * An incomplete last line is held if it `couldBecome` an announcement and nothing has gone on of it yet, else it goes
   * on at once, and the rest of that line with it.
   */
  lines(couldBecome: (partial: string) => boolean): Iterable<Line>
  /** Without lines: bytes from `at` on are kept until more have come; what is before goes on. */
  hold(at: number): void
  /**
   * Nothing of this connection will be of interest again: all of `text` goes on (rewritten as asked for), what stands
   * expected stays, and no call follows. It costs no more than any other connection from then on.
   */
  done(): void

  /**
   * A connection will come: to the sender's own address, at the port it announces. Returns what the peer must be told,
   * or undefined if the expectation is refused (the reason is counted): then leave the announcement alone.
   */
  expect(announcement: Announcement): Announced | undefined
  unexpect(handle: number): void
  /** Puts an inactive expectation in force, or makes it inactive again. */
  activate(handle: number, active: boolean): void

  /**
   * Replaces `length` bytes from `at` in `text`; lengths, checksums and sequence numbers follow for the rest of the
   * connection. Spans are given in rising order and don't overlap. False if it can't be done, or not yet (the call is
   * made again then): withdraw what was announced. (ip_nat_mangle_tcp_packet, ip_nat_mangle_udp_packet)
   */
  mangle(at: number, length: number, replacement: string): boolean
}

/** The connection that was expected, from its expectation. */
export interface Child {
  readonly tuple: Tuple
  /** The endpoint that was announced, before translation. */
  readonly announced: Endpoint
  readonly class: number
}

/** The connection in which a child was announced. It has not ended: its expectations end with it. */
export interface Master {
  /** The tuple of the master's first packet, as sent. */
  readonly tuple: Tuple
}
