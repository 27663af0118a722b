// The program attached to an interface, and taken from it. Authority: net/core/dev.c (sch_handle_ingress), include/net/
// tcx.h, net/sched/cls_bpf.c, kernel/bpf/arraymap.c (prog_array_map_clear). Control plane only: throws OffloadError.
//
//   way       from kernel   what the interface has            when the process is killed
//   tcx       6.6           a link, which is a descriptor     nothing is left
//   clsact    5.12          a filter, which stays             the filter calls a program that is no longer there
//
// A filter keeps its program, and a program its map: killed, the process would leave them forwarding by a frozen table.
// So the filter's program is a trampoline that calls the real one through a map of programs, which the kernel empties
// when its last descriptor is closed. What is left then does nothing, and the next attach() removes it.
//
// Owner: the thread that attaches, in the interface's network namespace; detach() may be called in any.

import { addClsact, addProgramFilter, deleteClsact, deleteProgramFilter, filterNames } from '../host/clsact.ts'
import { NETLINK_ROUTE, NetlinkError, NetlinkSocket } from '../host/netlink-socket.ts'
import { listLinks } from '../host/rtnetlink.ts'
import { close } from '../io/syscalls.ts'
import { createLink, createProgramSlot, loadProgram, setProgramSlot } from './bpf.ts'
import { call, exit, loadMap, op, op32, R0, R2, R3, step } from './ebpf.ts'
import { assemble, HELPER } from './ebpf-assembler.ts'
import { OffloadError } from './errors.ts'
import { NEXT } from './program.ts'

export type Way = 'tcx' | 'clsact'

export interface Attachment {
  readonly way: Way
  /** Also of an interface that is gone. */
  detach(): void
}

const FILTER_NAME = 'natloom'
/** The filter's name where its clsact was made for it, and is to go with it. */
const FILTER_NAME_ALONE = 'natloom, with clsact'

/**
 * Attaches a program to what an Ethernet interface receives: by tcx, or where the kernel has none by clsact; or the way
 * that is said.
 */
export function attach(programFd: number, interfaceIndex: number, way?: Way): Attachment {
  const socket = new NetlinkSocket(NETLINK_ROUTE)
  try {
    const link = listLinks(socket).find(({ index }) => index === interfaceIndex)
    if (!link) throw new OffloadError('OFFLOAD_INTERFACE', `there is no interface ${interfaceIndex}`)
    if (!link.ethernet)
      throw new OffloadError(
        'OFFLOAD_INTERFACE',
        `${link.name} is no Ethernet: what it receives can't be offloaded, and stays with the shards`,
      )
    removeLeft(socket, interfaceIndex)
    const attached = way === 'clsact' ? undefined : byTcx(programFd, interfaceIndex, way)
    if (attached) {
      socket.close()
      return attached
    }
    return byClsact(socket, programFd, interfaceIndex)
  } catch (error) {
    socket.close()
    throw error instanceof NetlinkError ? refused(error) : error
  }
}

/** Undefined if the kernel has no tcx, and another way may be tried. */
function byTcx(programFd: number, interfaceIndex: number, way: Way | undefined): Attachment | undefined {
  try {
    const link = createLink(programFd, interfaceIndex)
    return { way: 'tcx', detach: () => close(link) }
  } catch (error) {
    if (way === undefined && error instanceof OffloadError && error.code === 'OFFLOAD_KERNEL') return undefined
    throw error
  }
}

function byClsact(socket: NetlinkSocket, programFd: number, interfaceIndex: number): Attachment {
  const slot = createProgramSlot('natloom')
  try {
    setProgramSlot(slot, programFd)
    const trampoline = loadProgram('natloom_tramp', trampolineCode(slot))
    try {
      const isOurs = addClsact(socket, interfaceIndex)
      try {
        addProgramFilter(socket, interfaceIndex, trampoline, isOurs ? FILTER_NAME_ALONE : FILTER_NAME)
      } catch (error) {
        if (isOurs) deleteClsact(socket, interfaceIndex)
        throw error
      }
    } finally {
      close(trampoline)
    }
  } catch (error) {
    close(slot)
    throw error
  }
  const detach = (): void => {
    // From here on the filter does nothing, whether or not it can be removed.
    close(slot)
    try {
      removeLeft(socket, interfaceIndex)
    } catch (error) {
      if (!isGone(error)) throw error
    } finally {
      socket.close()
    }
  }
  return { way: 'clsact', detach }
}

/** Calls the program in the slot, which then returns to the kernel; without one, nothing has happened. */
const trampolineCode = (slotFd: number): Uint8Array =>
  assemble([
    step('call the program, if there is one', loadMap(R2, slotFd), op(R3, '=', 0), call(HELPER.tail_call)),
    step('there is none', op32(R0, '=', NEXT), exit()),
  ]).code

/** Takes away a filter of natloom's, and its clsact if it was made for it and nobody else uses it. */
function removeLeft(socket: NetlinkSocket, interfaceIndex: number): void {
  const names = filterNames(socket, interfaceIndex)
  const isAlone = names.includes(FILTER_NAME_ALONE)
  if (!isAlone && !names.includes(FILTER_NAME)) return
  deleteProgramFilter(socket, interfaceIndex)
  if (isAlone && names.length === 1) deleteClsact(socket, interfaceIndex)
}

const isGone = (error: unknown): boolean => error instanceof NetlinkError && error.errno === 'ENODEV'

function refused(cause: NetlinkError): OffloadError {
  if (cause.errno === 'EPERM')
    return new OffloadError('OFFLOAD_RIGHTS', `${cause.message}; it takes CAP_NET_ADMIN`, { cause })
  if (cause.errno === 'ENOENT' || cause.errno === 'EOPNOTSUPP')
    return new OffloadError(
      'OFFLOAD_KERNEL',
      `${cause.message}; it takes a kernel with tcx (6.6), or with the modules sch_ingress and cls_bpf`,
      { cause },
    )
  if (cause.errno === 'EEXIST')
    return new OffloadError('OFFLOAD_INTERFACE', `${cause.message}: another filter has the place of natloom's`, {
      cause,
    })
  return new OffloadError('OFFLOAD_INTERFACE', cause.message, { cause })
}
