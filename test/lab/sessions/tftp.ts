// TFTP: requests and what is none, datagram by datagram. The client is inside.

import { part, type Said, type Session } from './session.ts'

const tftp = (name: string, ...script: Said[]): Session => ({ name: `tftp: ${name}`, service: 'tftp', script })
const c = (text: string): Said => part('client', text)
const s = (text: string): Said => part('server', text)

export const TFTP: readonly Session[] = [
  tftp('a request to read', c('\0\x01boot.img\0octet\0')),
  tftp('a request to write', c('\0\x02boot.img\0octet\0')),
  tftp('a request with options', c('\0\x01boot.img\0octet\0blksize\x001428\0tsize\x000\0')),
  tftp('a request with its mode in capitals', c('\0\x01boot.img\0NETASCII\0')),
  tftp('a request with an unknown mode', c('\0\x01boot.img\0telepathy\0')),
  tftp('a request without a name', c('\0\x01\0octet\0')),
  tftp('a request without its last zero', c('\0\x01boot.img\0octet')),
  tftp('a request with nothing but its opcode', c('\0\x01')),
  tftp('a request longer than 512 bytes', c(`\0\x01${'x'.repeat(600)}\0octet\0`)),
  tftp('a request sent twice', c('\0\x01boot.img\0octet\0'), c('\0\x01boot.img\0octet\0')),
  tftp('two requests by one port', c('\0\x01boot.img\0octet\0'), c('\0\x02log\0octet\0')),
  tftp('one byte', c('\0')),
  tftp('data', c('\0\x03\0\x01hello')),
  tftp('an error', c('\0\x05\0\x01no such file\0')),
  tftp('an acknowledgement of options', c('\0\x06blksize\x001428\0')),
  tftp('an opcode that is none', c('\0\x09boot.img\0octet\0')),
  tftp('opcode 257', c('\x01\x01boot.img\0octet\0')),
  tftp('a request from the server', c('\0\x05\0\x01\0'), s('\0\x01boot.img\0octet\0')),
]
