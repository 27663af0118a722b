// What can go wrong between natloom and its host. Control plane only: thrown at the start, on changes, and while
// changes are undone. Each message says what is wrong and what to do about it.

export type HostErrorCode =
  /** A capability is missing. */
  | 'HOST_RIGHTS'
  /** A program is missing. */
  | 'HOST_TOOL'
  /** The program nft does not list the rules of others. */
  | 'HOST_NFT'
  /** A setting below /proc/sys can't be read or was not accepted. */
  | 'HOST_SYSCTL'
  /** The state file can't be read, written or understood. */
  | 'HOST_STATE'
  /** Another natloom runs with this state file. */
  | 'HOST_IN_USE'
  /** The kernel refused a netlink request. */
  | 'HOST_NETLINK'
  /** An interface can't be used. */
  | 'HOST_INTERFACE'

export class HostError extends Error {
  override readonly name = 'HostError'
  readonly code: HostErrorCode
  constructor(code: HostErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

export const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
