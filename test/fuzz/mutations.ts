// What goes wrong with a frame on its way, or is made wrong: a change of one kind, mostly with the header's checksum
// made right again, so that what is wrong lies further in.

import { IP, setLong, setWord, word } from '../datapath/reference-packet.ts'
import type { Random } from '../helpers/mutations.ts'
import { ADDRESS, writeHeaderChecksum, writeTransportChecksum } from './frames.ts'

const ADDRESSES = [...Object.values(ADDRESS), 0, 0x7f000001, 0xe0000001, 0xffffffff, 0xa9fe0101]
const PORTS = [0, 1, 20, 53, 69, 80, 5000, 5001, 6900, 8080, 16384, 17000, 18431, 65535]

export function mutate(original: Uint8Array, random: Random): Uint8Array {
  const frame = original.slice()
  if (frame.length < IP + 24) return frame
  const l4 = IP + (frame[IP]! & 15) * 4
  const pick = <T>(list: readonly T[]): T => list[random(list.length)]!
  switch (random(14)) {
    case 0:
      return frame.subarray(0, random(frame.length + 1))
    case 1:
      return withRoom(frame, random(30))
    case 2:
      frame[random(frame.length)] = random(256)
      return frame
    case 3:
      setWord(frame, IP + 2, pick([0, 19, 20, 27, 28, word(frame, IP + 2) - 1, word(frame, IP + 2) + 1, 65535]))
      break
    case 4:
      frame[IP] = pick([0x44, 0x46, 0x4f, 0x65, 0x40])
      break
    case 5:
      frame[IP + 8] = random(3)
      break
    case 6:
      frame[IP + 9] = pick([1, 6, 17, 47, 33, 136, 50, 132, 0, 255])
      break
    case 7:
      setLong(frame, IP + (random(2) === 0 ? 12 : 16), pick(ADDRESSES))
      break
    case 8:
      setWord(frame, IP + 6, pick([0x4000, 0x8000, 0x2000, 1, 2, 0x2001, 0x1fff, 0x3fff]))
      break
    case 9:
      if (frame.length >= l4 + 4) setWord(frame, l4 + 2 * random(2), pick(PORTS))
      break
    case 10:
      return withOptions(frame, random)
    case 11:
      if (frame.length > l4) frame[l4 + random(frame.length - l4)]! ^= 1 << random(8)
      return frame
    case 12:
      if (frame.length > l4) frame[l4 + random(Math.min(24, frame.length - l4))] = random(256)
      break
    default:
      frame[IP + 10 + random(2)]! ^= 1 << random(8)
      return frame
  }
  if (random(8) !== 0) writeHeaderChecksum(frame)
  if (random(3) !== 0) writeTransportChecksum(frame)
  return frame
}

/** The link has filled the frame up. */
function withRoom(frame: Uint8Array, more: number): Uint8Array {
  const larger = new Uint8Array(frame.length + more)
  larger.set(frame)
  return larger
}

const OPTIONS = [
  [1, 1, 1, 0],
  [7, 7, 4, 0, 0, 0, 0, 0],
  [131, 7, 4, 192, 0, 2, 7, 0],
  [68, 8, 5, 0, 0, 0, 0, 0],
  [148, 4, 0, 0],
  [148, 0, 0, 0],
  [148, 44, 0, 0],
  [1, 1, 1, 148],
]

/** IPv4 options, good and bad, between the header and what it carries. */
function withOptions(frame: Uint8Array, random: Random): Uint8Array {
  const options = OPTIONS[random(OPTIONS.length)]!
  const longer = new Uint8Array(frame.length + options.length)
  longer.set(frame.subarray(0, IP + 20))
  longer.set(options, IP + 20)
  longer.set(frame.subarray(IP + 20), IP + 20 + options.length)
  longer[IP] = 0x45 + options.length / 4
  setWord(longer, IP + 2, longer.length - IP)
  writeHeaderChecksum(longer)
  return longer
}
