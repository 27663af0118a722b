// Hears of every change of the nft ruleset of this network namespace, and by whom it was made. Authority:
// net/netfilter/nf_tables_api.c (nf_tables_gen_notify: each transaction ends with a message that names the program, and
// has the netlink port of the socket that asked for it). The port tells natloom's own changes; the number of the
// process can't, since the kernel gives the one that it has outside of all containers. Owner: the netlink watcher's
// thread (watcher.ts), which polls the descriptor; whether natloom's own rules are still there is then looked at on the
// main thread, which has their tables (rule-tables.ts).

import type { Message } from './netlink.ts'
import { NETLINK_NETFILTER, NetlinkSocket } from './netlink-socket.ts'
import { generationOf, NEW_GENERATION, RULESET_GROUP } from './nf-tables.ts'

export class RulesetWatch {
  readonly #socket = new NetlinkSocket(NETLINK_NETFILTER, RULESET_GROUP)
  readonly #ownPort: number

  /** The netlink port of the socket that changes natloom's own tables. Throws SystemCallError. */
  constructor(ownPort: number) {
    this.#ownPort = ownPort
  }

  get fd(): number {
    return this.#socket.fd
  }

  /** The program that has changed the ruleset last since the last call; undefined if no other has. */
  take(): string | undefined {
    let by: string | undefined
    const received = this.#socket.receive((message: Message) => {
      if (message.type !== NEW_GENERATION) return
      const { thread, program } = generationOf(message)
      if (message.port !== this.#ownPort) by = `${program} (${thread})`
    })
    return received === 'lost' ? (by ?? 'somebody') : by
  }

  close(): void {
    this.#socket.close()
  }
}
