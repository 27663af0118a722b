// The queueing discipline `clsact`, which queues nothing but is where programs look at what an interface receives, and
// filters in it that are a program which decides itself (direct action). Authority: tc-bpf(8), rtnetlink(7),
// linux/pkt_sched.h, linux/pkt_cls.h, net/sched/cls_bpf.c. Control plane only: every call may throw NetlinkError.
//
// Owner: the kernel; a filter outlives the process that has made it. Its name says whose it is.

import {
  type Attribute,
  attributes,
  int32,
  type Message,
  NLM_F_CREATE,
  NLM_F_EXCL,
  nested,
  stringZ,
  textOf,
} from './netlink.ts'
import { NetlinkError, type NetlinkSocket } from './netlink-socket.ts'

const RTM_NEWQDISC = 36
const RTM_DELQDISC = 37
const RTM_NEWTFILTER = 44
const RTM_DELTFILTER = 45
const RTM_GETTFILTER = 46

const TC_H_CLSACT = 0xfffffff1
const CLSACT_HANDLE = 0xffff0000
const TC_H_INGRESS = 0xfffffff2
const TC_H_EGRESS = 0xfffffff3

const TCA_KIND = 1
const TCA_OPTIONS = 2
const TCA_BPF_FD = 6
const TCA_BPF_NAME = 7
const TCA_BPF_FLAGS = 8
const DIRECT_ACTION = 1

/** Filters that others have added without saying where come later, those with a priority of their own mostly first. */
const PRIORITY = 0x6e6c
/** ETH_P_IP in the network's byte order. */
const PROTOCOL = 0x0008
const HANDLE = 1

/** struct tcmsg: family u8 and padding, interface index i32 @4, handle u32 @8, parent u32 @12, info u32 @16. */
function tcmsg(index: number, handle: number, parent: number, info = 0): Uint8Array {
  const fixed = new DataView(new ArrayBuffer(20))
  fixed.setInt32(4, index, true)
  fixed.setUint32(8, handle, true)
  fixed.setUint32(12, parent, true)
  fixed.setUint32(16, info, true)
  return new Uint8Array(fixed.buffer)
}

/** False if the interface has one already. */
export function addClsact(socket: NetlinkSocket, index: number): boolean {
  try {
    socket.request({
      what: `adding clsact to interface ${index}`,
      type: RTM_NEWQDISC,
      flags: NLM_F_CREATE | NLM_F_EXCL,
      fixed: tcmsg(index, CLSACT_HANDLE, TC_H_CLSACT),
      attributes: [[TCA_KIND, stringZ('clsact')]],
    })
    return true
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === 'EEXIST') return false
    throw error
  }
}

/** With all its filters. */
export const deleteClsact = (socket: NetlinkSocket, index: number): void =>
  socket.request({
    what: `removing clsact from interface ${index}`,
    type: RTM_DELQDISC,
    fixed: tcmsg(index, CLSACT_HANDLE, TC_H_CLSACT),
  })

const FILTER = (PRIORITY << 16) | PROTOCOL

/** Has a program look at the IPv4 packets that the interface receives. The kernel keeps the program, not the fd. */
export function addProgramFilter(socket: NetlinkSocket, index: number, fd: number, name: string): void {
  const options: Attribute[] = [
    [TCA_BPF_FD, int32(fd)],
    [TCA_BPF_NAME, stringZ(name)],
    [TCA_BPF_FLAGS, int32(DIRECT_ACTION)],
  ]
  socket.request({
    what: `attaching a program to interface ${index} by clsact`,
    type: RTM_NEWTFILTER,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    fixed: tcmsg(index, HANDLE, TC_H_INGRESS, FILTER),
    attributes: [
      [TCA_KIND, stringZ('bpf')],
      [TCA_OPTIONS, nested(options)],
    ],
  })
}

export const deleteProgramFilter = (socket: NetlinkSocket, index: number): void =>
  socket.request({
    what: `taking a program from interface ${index}`,
    type: RTM_DELTFILTER,
    fixed: tcmsg(index, HANDLE, TC_H_INGRESS, FILTER),
    attributes: [[TCA_KIND, stringZ('bpf')]],
  })

/** The names of all filters in an interface's clsact, '' for those of other kinds; none, if it has no clsact. */
export function filterNames(socket: NetlinkSocket, index: number): string[] {
  const listed = (parent: number): string[] =>
    socket.dump(
      { what: `listing filters of interface ${index}`, type: RTM_GETTFILTER, fixed: tcmsg(index, 0, parent) },
      nameOf,
    )
  return [...listed(TC_H_INGRESS), ...listed(TC_H_EGRESS)]
}

/** Each priority is listed once by itself, with handle 0, before the filters in it. */
function nameOf({ body }: Message): string | undefined {
  if (body.getUint32(8, true) === 0) return undefined
  const options = attributes(body, 20).get(TCA_OPTIONS)
  const name = options && attributes(options, 0).get(TCA_BPF_NAME)
  return name ? textOf(name) : ''
}
