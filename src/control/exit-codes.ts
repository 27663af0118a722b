// The exit codes of natloom, all of them: scripts, the systemd unit and deploy/README.md rely on them. Besides, a
// SIGINT, SIGTERM or SIGHUP two seconds or more after the first ends the process at once with 128 plus the signal's
// number, as shells report it.

export const EXIT = {
  /** Success; for `run`: stopped by a signal, and everything was undone. */
  ok: 0,
  /** A fault of natloom itself: the stack is printed. */
  unexpected: 1,
  /** A wrong command line, configuration file or variable; starting again changes nothing. */
  configuration: 2,
  /** The host lacks something: an interface, a right, a tool, a free port; for `conntrack`, a running gateway. */
  host: 3,
  /** The gateway ran, and something that it can't go on without failed, or something could not be taken back. */
  gatewayFailed: 4,
  /** `check --host` has found nothing that keeps `run` from starting, and something that may surprise. */
  hostWarnings: 5,
} as const
