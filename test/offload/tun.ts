// An interface without Ethernet whose packets a test reads. Authority: Documentation/networking/tuntap.rst.

import koffi from 'koffi'
import { close, errno, O_CLOEXEC, open, SystemCallError } from '../../src/io/syscalls.ts'
import { eventually } from '../patience.ts'

const O_RDWR = 2
const O_NONBLOCK = 0x800
const TUNSETIFF = 0x400454ca
const IFF_TUN = 1
const IFF_NO_PI = 0x1000
const LONGEST = 65535

const libc = koffi.load(null)
const ioctl = libc.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)')
const read = libc.func('intptr_t read(int fd, _Out_ uint8_t *buffer, uintptr_t length)')

export class Tun {
  readonly #fd: number
  readonly #buffer = new Uint8Array(LONGEST)

  /** In the namespace of the thread; gone with close(). */
  constructor(name: string) {
    this.#fd = open('/dev/net/tun', O_RDWR | O_NONBLOCK | O_CLOEXEC)
    const request = new Uint8Array(40) // struct ifreq: name of 16 bytes, flags u16
    request.set(Buffer.from(name))
    new DataView(request.buffer).setUint16(16, IFF_TUN | IFF_NO_PI, true)
    if (ioctl(this.#fd, TUNSETIFF, request) < 0) throw new SystemCallError('ioctl TUNSETIFF', errno())
  }

  /** The next IPv4 packet that is sent by the interface, in hexadecimal. */
  async next(): Promise<string> {
    let length = 0
    await eventually('a packet is sent by the tun', () => {
      length = read(this.#fd, this.#buffer, LONGEST) as number
      return length > 0 && this.#buffer[0]! >> 4 === 4
    })
    return Buffer.from(this.#buffer.subarray(0, length)).toString('hex')
  }

  close(): void {
    close(this.#fd)
  }
}
