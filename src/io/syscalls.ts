// The system calls that packet I/O and host integration make, through koffi: no compiler needed on the host, usable in
// any thread. Authority: the manual pages of section 2, socket(7), packet(7), netlink(7). Every call is synchronous
// (koffi's asynchronous calls are main-thread only). Pointers into mapped memory travel as numbers, so that two
// isolates can view one mapping: never unmap while a view lives.

import { constants } from 'node:os'
import koffi from 'koffi'

const libc = koffi.load(null)

/** Kernel addresses and lengths fit a double exactly: user space ends below 2^47. */
export type Address = number

const call = {
  socket: libc.func('int socket(int domain, int type, int protocol)'),
  bind: libc.func('int bind(int fd, const uint8_t *address, uint32_t length)'),
  connect: libc.func('int connect(int fd, const uint8_t *address, uint32_t length)'),
  close: libc.func('int close(int fd)'),
  dup3: libc.func('int dup3(int from, int to, int flags)'),
  open: libc.func('int open(const char *path, int flags, ...)'),
  getsockname: libc.func('int getsockname(int fd, _Out_ uint8_t *address, _Inout_ uint32_t *length)'),
  setsockopt: libc.func('int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)'),
  getsockopt: libc.func(
    'int getsockopt(int fd, int level, int name, _Inout_ uint8_t *value, _Inout_ uint32_t *length)',
  ),
  recv: libc.func('intptr_t recv(int fd, uint8_t *buffer, uintptr_t length, int flags)'),
  send: libc.func('intptr_t send(int fd, const uint8_t *buffer, uintptr_t length, int flags)'),
  sendmmsg: libc.func('int sendmmsg(int fd, intptr_t messages, uint32_t count, int flags)'),
  poll: libc.func('int poll(intptr_t fds, uint64_t count, int timeout)'),
  pollArray: libc.func('int poll(uint8_t *fds, uint64_t count, int timeout)'),
  mmap: libc.func('intptr_t mmap(intptr_t address, uintptr_t length, int prot, int flags, int fd, int64_t offset)'),
  munmap: libc.func('int munmap(intptr_t address, uintptr_t length)'),
  madvise: libc.func('int madvise(intptr_t address, uintptr_t length, int advice)'),
  eventfd: libc.func('int eventfd(uint32_t initial, int flags)'),
  read: libc.func('intptr_t read(int fd, uint8_t *buffer, uintptr_t length)'),
  write: libc.func('intptr_t write(int fd, const uint8_t *buffer, uintptr_t length)'),
  setns: libc.func('int setns(int fd, int type)'),
  exit: libc.func('void _exit(int status)'),
  clockGettime: libc.func('int clock_gettime(int clock, uint8_t *time)'),
  prctl: libc.func('int prctl(int option, unsigned long argument)'),
  nametoindex: libc.func('uint32_t if_nametoindex(const char *name)'),
  // Variadic in C, where each argument is as wide as a register on the processors that natloom knows.
  syscall: libc.func('intptr_t syscall(intptr_t number, intptr_t command, uint8_t *attributes, uintptr_t length)'),
  addressOf: libc.func('uintptr_t memmove(void *to, const void *from, uintptr_t length)'),
}

const names = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]))

/** A system call refused by the kernel. Control plane only: the data plane reads `errno()` instead. */
export class SystemCallError extends Error {
  override readonly name = 'SystemCallError'
  readonly code: string
  constructor(call: string, errno: number) {
    const code = names.get(errno) ?? String(errno)
    super(`${call}: ${code}`)
    this.code = code
  }
}

/** The error number of this thread's last failed call. */
export const errno = (): number => koffi.errno()

function checked(name: string, result: number): number {
  if (result < 0) throw new SystemCallError(name, koffi.errno())
  return result
}

// --- control plane: throw on failure ---

export const socket = (domain: number, type: number, protocol: number): number =>
  checked('socket', call.socket(domain, type, protocol))
export const bind = (fd: number, address: Uint8Array): number => checked('bind', call.bind(fd, address, address.length))
export const connect = (fd: number, address: Uint8Array): number =>
  checked('connect', call.connect(fd, address, address.length))
/** Fills `address` with what the socket is bound to; returns how many bytes the kernel wrote. */
export function getsockname(fd: number, address: Uint8Array): number {
  const length = [address.length]
  checked('getsockname', call.getsockname(fd, address, length))
  return length[0] as number
}
export const close = (fd: number): void => void call.close(fd)
/** Makes `to` name what `from` names, in one step: nobody who uses `to` meanwhile finds it closed. */
export const dup3 = (from: number, to: number, flags: number): number => checked('dup3', call.dup3(from, to, flags))
export const open = (path: string, flags: number): number => checked(`open ${path}`, call.open(path, flags))
export const setsockopt = (fd: number, level: number, name: number, value: Uint8Array): number =>
  checked(`setsockopt ${level}/${name}`, call.setsockopt(fd, level, name, value, value.length))
export const setsockoptInt = (fd: number, level: number, name: number, value: number): number =>
  setsockopt(fd, level, name, new Uint8Array(Int32Array.of(value).buffer))
/** Fills `value`; returns how many bytes the kernel wrote. */
export function getsockopt(fd: number, level: number, name: number, value: Uint8Array): number {
  const length = [value.length]
  checked(`getsockopt ${level}/${name}`, call.getsockopt(fd, level, name, value, length))
  return length[0] as number
}
/** `at` 0 lets the kernel choose. */
export const mmap = (at: Address, length: number, prot: number, flags: number, fd: number): Address =>
  checked('mmap', call.mmap(at, length, prot, flags, fd, 0))
export const munmap = (at: Address, length: number): number => checked('munmap', call.munmap(at, length))
/**
 * Asks for large pages under a buffer, which must not have been touched yet (madvise(2); "madvise" is Debian's and
 * Ubuntu's setting for transparent huge pages). A lookup at random in 100 MB of pages of 4 KB misses the processor's
 * address cache with nearly every access: measured with bench/pipeline.ts at a million flows. Returns false if the
 * kernel refuses.
 */
export const adviseHugePages = (buffer: ArrayBufferLike): boolean =>
  call.madvise(addressOf(new Uint8Array(buffer)), buffer.byteLength, MADV_HUGEPAGE) === 0
export const eventfd = (): number => checked('eventfd', call.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC))
/** Moves this thread (sockets made afterwards too) into the namespace that `fd` refers to. */
export const setns = (fd: number, type: number): number => checked('setns', call.setns(fd, type))
/** Ends the process without waiting for its threads: _exit(2), which is exit_group in the kernel. */
export const exitProcess = (status: number): never => call.exit(status) as never
/** From now on the kernel kills this process when the thread that has started it ends (prctl(2)). */
export const dieWithParent = (): number => checked('prctl', call.prctl(PR_SET_PDEATHSIG, SIGKILL))
/** 0 if there is no such interface. */
export const interfaceIndex = (name: string): number => call.nametoindex(name)

/**
 * bpf(2), which libc has no function for; negative on failure, then errno(). The kernel writes some answers into
 * `attributes`, a union bpf_attr.
 */
export const bpf = (command: number, attributes: Uint8Array): number =>
  call.syscall(NR_BPF, command, attributes, attributes.length)

// --- data plane: negative on failure, then errno() ---

export const recv = (fd: number, buffer: Uint8Array, flags: number): number =>
  call.recv(fd, buffer, buffer.length, flags)
export const send = (fd: number, bytes: Uint8Array, flags: number): number => call.send(fd, bytes, bytes.length, flags)
/** `messages` is the address of an array of struct mmsghdr. */
export const sendmmsg = (fd: number, messages: Address, count: number, flags: number): number =>
  call.sendmmsg(fd, messages, count, flags)
/** `fds` is the address of an array of struct pollfd. Bound every wait: a thread inside can't be terminated. */
export const poll = (fds: Address, count: number, timeoutMs: number): number => call.poll(fds, count, timeoutMs)
/** poll() with the array of struct pollfd in a typed array; the kernel writes `revents` into it. */
export const pollArray = (fds: Uint8Array, count: number, timeoutMs: number): number =>
  call.pollArray(fds, count, timeoutMs)

const time = new BigInt64Array(2)
const timeBytes = new Uint8Array(time.buffer)
/** How much processor time this thread has used so far, in milliseconds. */
export function threadCpuTime(): number {
  call.clockGettime(CLOCK_THREAD_CPUTIME_ID, timeBytes)
  return Number(time[0]) * 1000 + Number(time[1]) / 1e6
}

const ONE = new Uint8Array(BigUint64Array.of(1n).buffer)
const drained = new Uint8Array(8)
/** Makes an eventfd readable. */
export const signal = (fd: number): number => call.write(fd, ONE, 8)
/** Makes it unreadable again. */
export const drain = (fd: number): number => call.read(fd, drained, 8)

/** Where the bytes of an array that won't move lie (shared memory, or memory outside the heap). */
export const addressOf = (array: ArrayBufferView): Address => call.addressOf(array, array, 0)
/** Mapped memory as an ArrayBuffer; a view, not a copy. */
export const viewOf = (at: Address, length: number): ArrayBuffer => koffi.view(BigInt(at), length)

/** Its number on x86-64 and on arm64 (asm-generic/unistd.h); no call has the number -1: ENOSYS. */
const NR_BPF = { x64: 321, arm64: 280 }[process.arch as string] ?? -1
const CLOCK_THREAD_CPUTIME_ID = 3
export const O_CLOEXEC = 0x80000
const EFD_NONBLOCK = 0x800
const EFD_CLOEXEC = 0x80000
export const AF_UNIX = 1
export const AF_INET = 2
export const AF_NETLINK = 16
export const AF_PACKET = 17
export const SOCK_DGRAM = 2
export const SOCK_RAW = 3
export const SOCK_CLOEXEC = 0x80000
export const SOL_SOCKET = 1
export const SOL_NETLINK = 270
export const SOL_PACKET = 263
export const SO_ERROR = 4
export const SO_SNDBUF = 7
export const SO_ATTACH_FILTER = 26
export const SO_SNDBUFFORCE = 32
export const SO_RCVBUFFORCE = 33
export const MSG_DONTWAIT = 0x40
export const MSG_TRUNC = 0x20
export const POLLIN = 1
export const POLLERR = 8
export const PROT_NONE = 0
export const PROT_READ_WRITE = 3
export const MAP_SHARED = 1
export const MAP_PRIVATE = 2
export const MAP_FIXED = 0x10
export const MAP_ANONYMOUS = 0x20
export const MAP_NORESERVE = 0x4000
const MADV_HUGEPAGE = 14
const PR_SET_PDEATHSIG = 1
const SIGKILL = 9
export const CLONE_NEWNET = 0x40000000
