// The errors of packet I/O, each with a code. Thrown by the control plane and by readers of captures, never on the
// packet path.

export type AfPacketErrorCode = 'interface-missing' | 'not-ethernet' | 'not-permitted' | 'ring-size' | 'ring-memory'

/** Why the packet sockets can't be had; the message says what to do. */
export class AfPacketError extends Error {
  override readonly name = 'AfPacketError'
  readonly code: AfPacketErrorCode
  constructor(code: AfPacketErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

export type PcapErrorCode =
  | 'PCAP_UNREADABLE'
  | 'PCAP_EMPTY'
  | 'PCAP_FOREIGN'
  | 'PCAP_TRUNCATED'
  | 'PCAP_DAMAGED'
  | 'PCAP_LINK'
  | 'PCAP_UNWRITABLE'

/** What is wrong with a capture file; the message says where and what to do. */
export class PcapError extends Error {
  override readonly name = 'PcapError'
  readonly code: PcapErrorCode
  /** The exit code of the command: a wrong file counts as wrong usage, as a wrong option does. */
  readonly exitCode = 2
  constructor(code: PcapErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
