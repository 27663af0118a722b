// Why a helper can't be loaded or unloaded. The API answers with the code and the message; a failed start ends with the
// exit code.

export type HelperErrorCode =
  /** The module can't be imported, or its export is no helper. */
  | 'HELPER_MODULE'
  /** A helper with this name is already loaded. */
  | 'HELPER_EXISTS'
  /** No helper with this name is loaded. */
  | 'HELPER_UNKNOWN'
  /** A shard could not load it. */
  | 'HELPER_SHARD'
  /** The list of helpers is full. */
  | 'HELPER_LIMIT'

export class HelperError extends Error {
  override readonly name = 'HelperError'
  readonly code: HelperErrorCode
  /** `configuration` in control/exit-codes.ts: starting again changes nothing. */
  readonly exitCode = 2
  constructor(code: HelperErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
