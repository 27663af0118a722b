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
