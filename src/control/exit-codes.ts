// What the process says when it ends. The one list: scripts, the systemd unit and deploy/README.md rely on it.
// Ended by a second SIGINT or SIGTERM before everything was taken back: 128 and the signal's number, as shells do.

export const EXIT = {
  /** Did what was asked; for `run`: was told to stop, and took everything back. */
  ok: 0,
  /** A fault of natloom itself: the stack is printed. */
  unexpected: 1,
  /** A wrong command line, configuration file or variable; starting again changes nothing. */
  configuration: 2,
  /** The host lacks something: an interface, a right, a tool, a free port; for `conntrack`, a running gateway. */
  host: 3,
  /** The gateway ran, and something that it can't live without failed. */
  gatewayFailed: 4,
} as const
