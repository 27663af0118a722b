// Why the offload can't be had, coded. Control plane only: thrown when map, programs and links are made. Each message
// says what is wrong, and which right or which kernel gives it.

export type OffloadErrorCode =
  /** The process may not use bpf(2), or not for this. */
  | 'OFFLOAD_RIGHTS'
  /** The kernel, or this processor's Node, lacks what is asked for. */
  | 'OFFLOAD_KERNEL'
  /** There is no memory for the map, or it would be longer than the kernel takes. */
  | 'OFFLOAD_MEMORY'
  /** The kernel's verifier refuses the program. */
  | 'OFFLOAD_PROGRAM'
  /** The interface is gone, or takes no program. */
  | 'OFFLOAD_INTERFACE'

export class OffloadError extends Error {
  override readonly name = 'OffloadError'
  readonly code: OffloadErrorCode
  constructor(code: OffloadErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
