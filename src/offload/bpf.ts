// bpf(2): maps made, programs loaded, tried and attached. Authority: bpf(2), linux/bpf.h (union bpf_attr),
// kernel/bpf/syscall.c. Control plane only: every call may throw OffloadError.
//
// What the kernel is to read or write beside the attributes lies in an arena that this module keeps as long as it
// lives: a pointer in the attributes is a number, which keeps no buffer alive, and the collector moves what is on the
// heap. Owner: the thread; each call begins the arena anew.

import {
  addressOf,
  bpf,
  close,
  errno,
  MAP_SHARED,
  mmap,
  PROT_READ_WRITE,
  SystemCallError,
  viewOf,
} from '../io/syscalls.ts'
import { INSTRUCTION_BYTES } from './ebpf-assembler.ts'
import { OffloadError } from './errors.ts'

const MAP_CREATE = 0
const MAP_UPDATE_ELEM = 2
const PROG_LOAD = 5
const PROG_TEST_RUN = 10
const LINK_CREATE = 28

const MAP_TYPE_ARRAY = 2
const MAP_TYPE_PROG_ARRAY = 3
const F_MMAPABLE = 0x400
const PROG_TYPE_SCHED_CLS = 3
const TCX_INGRESS = 46
const NAME_BYTES = 15
const ATTRIBUTE_BYTES = 128
/** The kernel says so whether a helper is GPL only; those that programs here call aren't. */
const LICENCE = 'MIT'

const ARENA_BYTES = 1 << 20
const LOG_BYTES = 256 << 10

/** Memory that doesn't move, cut anew in each call. */
class Arena {
  readonly bytes = new Uint8Array(new SharedArrayBuffer(ARENA_BYTES))
  readonly #address = addressOf(this.bytes)
  #used = 0

  begin(): void {
    this.#used = 0
  }

  /** Zeros, and where they lie. */
  room(length: number): { bytes: Uint8Array; address: number } {
    const at = this.#used
    this.#used = (at + length + 7) & ~7
    if (this.#used > ARENA_BYTES) throw new RangeError(`${length} bytes have no room beside what a call has already`)
    const bytes = this.bytes.subarray(at, at + length)
    bytes.fill(0)
    return { bytes, address: this.#address + at }
  }

  copy(what: Uint8Array): number {
    const { bytes, address } = this.room(what.length)
    bytes.set(what)
    return address
  }
}

let arena: Arena | undefined

/** The attributes of a call and its arena. */
function begin(): { attributes: DataView; arena: Arena } {
  arena ??= new Arena()
  arena.begin()
  return { attributes: new DataView(new ArrayBuffer(ATTRIBUTE_BYTES)), arena }
}

const bytesOf = ({ buffer }: DataView): Uint8Array => new Uint8Array(buffer as ArrayBuffer)

function setPointer(attributes: DataView, at: number, address: number): void {
  attributes.setBigUint64(at, BigInt(address), true)
}

function setName(attributes: DataView, at: number, name: string): void {
  bytesOf(attributes).set(Buffer.from(name.slice(0, NAME_BYTES), 'latin1'), at)
}

const RIGHTS =
  'it takes CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, outside of user namespaces, and a system call filter ' +
  'that allows bpf (AmbientCapabilities= and SystemCallFilter= of a systemd unit)'

/** Makes an OffloadError of this thread's last failed call. */
function refusal(what: string, hints: Partial<Record<string, OffloadError>> = {}): OffloadError {
  const cause = new SystemCallError(`bpf, ${what}`, errno())
  const hint = hints[cause.code]
  if (hint) return hint
  if (cause.code === 'EPERM' || cause.code === 'EACCES')
    return new OffloadError('OFFLOAD_RIGHTS', `${what}: the kernel answers ${cause.code}; ${RIGHTS}`, { cause })
  if (cause.code === 'ENOSYS')
    return new OffloadError(
      'OFFLOAD_KERNEL',
      `${what}: there is no bpf(2) here; it takes a kernel with CONFIG_BPF_SYSCALL, on x86-64 or arm64`,
      { cause },
    )
  if (cause.code === 'ENOMEM')
    return new OffloadError('OFFLOAD_MEMORY', `${what}: the kernel has no memory for it`, { cause })
  return new OffloadError('OFFLOAD_KERNEL', `${what}: the kernel answers ${cause.code}`, { cause })
}

/** What a thread of this process needs to see a map's value: numbers, that can be posted to it. */
export interface MappedValue {
  readonly fd: number
  readonly address: number
  readonly bytes: number
}

/**
 * A map with one value, mapped into this process: for programs an address, for threads memory. It lives until its last
 * descriptor is closed, its last program unloaded and its last mapping gone, which is with the process at the latest.
 */
export function createSharedValue(name: string, bytes: number): MappedValue {
  const { attributes } = begin()
  attributes.setUint32(0, MAP_TYPE_ARRAY, true)
  attributes.setUint32(4, 4, true)
  attributes.setUint32(8, bytes, true)
  attributes.setUint32(12, 1, true)
  attributes.setUint32(16, F_MMAPABLE, true)
  setName(attributes, 28, name)
  const fd = bpf(MAP_CREATE, bytesOf(attributes))
  const what = `making a map of ${bytes} bytes`
  if (fd < 0)
    throw refusal(what, {
      EINVAL: new OffloadError(
        'OFFLOAD_KERNEL',
        `${what}: it takes a kernel that maps arrays into memory, from 5.5 on`,
      ),
      E2BIG: new OffloadError(
        'OFFLOAD_MEMORY',
        `${what}: the kernel takes no map as long as that; ask for fewer slots`,
      ),
    })
  try {
    return { fd, address: mmap(0, bytes, PROT_READ_WRITE, MAP_SHARED, fd), bytes }
  } catch (cause) {
    close(fd)
    throw new OffloadError('OFFLOAD_MEMORY', `mapping ${bytes} bytes of a map: ${String(cause)}`, { cause })
  }
}

/** The memory of a map's value, in any thread of the process that has made it. */
export const viewOfValue = ({ address, bytes }: MappedValue): ArrayBuffer => viewOf(address, bytes)

/**
 * A map of one program, for a tail call. The kernel empties it when its last descriptor is closed, though a program
 * that calls through it still stands.
 */
export function createProgramSlot(name: string): number {
  const { attributes } = begin()
  attributes.setUint32(0, MAP_TYPE_PROG_ARRAY, true)
  attributes.setUint32(4, 4, true)
  attributes.setUint32(8, 4, true)
  attributes.setUint32(12, 1, true)
  setName(attributes, 28, name)
  const fd = bpf(MAP_CREATE, bytesOf(attributes))
  if (fd < 0) throw refusal('making a map of programs')
  return fd
}

/** Puts a program into the slot, in place of another. */
export function setProgramSlot(slotFd: number, programFd: number): void {
  const { attributes, arena } = begin()
  attributes.setUint32(0, slotFd, true)
  setPointer(attributes, 8, arena.room(4).address)
  setPointer(attributes, 16, arena.copy(new Uint8Array(Uint32Array.of(programFd).buffer)))
  if (bpf(MAP_UPDATE_ELEM, bytesOf(attributes)) < 0) throw refusal('putting a program into a map of programs')
}

/** Loads a program for tc and tcx. Refused by the verifier: the end of what it says is in the message. */
export function loadProgram(name: string, code: Uint8Array): number {
  for (const logLevel of [0, 1]) {
    const { attributes, arena } = begin()
    attributes.setUint32(0, PROG_TYPE_SCHED_CLS, true)
    attributes.setUint32(4, code.length / INSTRUCTION_BYTES, true)
    setPointer(attributes, 8, arena.copy(code))
    setPointer(attributes, 16, arena.copy(Buffer.from(`${LICENCE}\0`, 'latin1')))
    const log = arena.room(LOG_BYTES)
    // A log is only asked for when there is something to say: it costs, and one without room for all refuses.
    if (logLevel > 0) {
      attributes.setUint32(24, logLevel, true)
      attributes.setUint32(28, LOG_BYTES, true)
      setPointer(attributes, 32, log.address)
    }
    setName(attributes, 48, name)
    const fd = bpf(PROG_LOAD, bytesOf(attributes))
    if (fd >= 0) return fd
    const text = Buffer.from(log.bytes.slice(0, log.bytes.indexOf(0)))
      .toString('latin1')
      .trimEnd()
    if (text !== '') {
      const end = text.split('\n').slice(-VERIFIER_LINES).join('\n')
      throw new OffloadError('OFFLOAD_PROGRAM', `the kernel's verifier refuses the program ${name}:\n${end}`, {
        cause: new SystemCallError('bpf, loading a program', errno()),
      })
    }
  }
  throw refusal(`loading the program ${name}`)
}
const VERIFIER_LINES = 20

export interface TestRun {
  /** What the program returns, as the kernel shows it: -1 is 0xffffffff. */
  readonly verdict: number
  readonly frame: Uint8Array
  /** Nanoseconds a run, on average. */
  readonly nanoseconds: number
}

/** struct __sk_buff, as far as a test run takes it: the size of a super-packet's segments. */
const SK_BUFF_BYTES = 192
const SK_BUFF_GSO_SIZE = 176

/**
 * Runs a program on a frame in the place of one that has come in by the loopback interface: one to the Ethernet address
 * 00:00:00:00:00:00 is for this host. Of several runs each has what the one before has left.
 */
export function testRun(programFd: number, frame: Uint8Array, gsoSize = 0, repeat = 1): TestRun {
  const { attributes, arena } = begin()
  const out = arena.room(frame.length + 64)
  attributes.setUint32(0, programFd, true)
  attributes.setUint32(8, frame.length, true)
  attributes.setUint32(12, out.bytes.length, true)
  setPointer(attributes, 16, arena.copy(frame))
  setPointer(attributes, 24, out.address)
  attributes.setUint32(32, repeat, true)
  if (gsoSize !== 0) {
    const context = arena.room(SK_BUFF_BYTES)
    new DataView(context.bytes.buffer, context.bytes.byteOffset).setUint32(SK_BUFF_GSO_SIZE, gsoSize, true)
    attributes.setUint32(40, SK_BUFF_BYTES, true)
    setPointer(attributes, 48, context.address)
  }
  if (bpf(PROG_TEST_RUN, bytesOf(attributes)) < 0) throw refusal('running a program on a frame')
  return {
    verdict: attributes.getUint32(4, true),
    frame: out.bytes.slice(0, attributes.getUint32(12, true)),
    nanoseconds: attributes.getUint32(36, true),
  }
}

/** Attaches a program to what an interface receives, before nft's ingress hook (tcx, from kernel 6.6 on). */
export function createLink(programFd: number, interfaceIndex: number): number {
  const { attributes } = begin()
  attributes.setUint32(0, programFd, true)
  attributes.setUint32(4, interfaceIndex, true)
  attributes.setUint32(8, TCX_INGRESS, true)
  const fd = bpf(LINK_CREATE, bytesOf(attributes))
  const what = `attaching a program to interface ${interfaceIndex}`
  if (fd < 0)
    throw refusal(what, {
      ENODEV: new OffloadError('OFFLOAD_INTERFACE', `${what}: there is no such interface`),
      EINVAL: new OffloadError('OFFLOAD_KERNEL', `${what}: it takes a kernel with tcx, from 6.6 on`),
    })
  return fd
}
