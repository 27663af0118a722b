// Where natloom differs from Linux's helpers on purpose, and why. A session that is not listed here must come out the
// same through both; one that is listed must differ in just the aspects named.

/**
 * What server and client receive, whether something never arrives (through Linux), whether the connection is reset
 * (through natloom), what is expected after a write.
 */
export type Aspect = 'to server' | 'to client' | 'stalls' | 'reset' | 'expected'

export interface Difference {
  readonly because: string
  readonly in: readonly Aspect[]
  readonly sessions: readonly string[]
}

export const DIFFERENCES: readonly Difference[] = [
  {
    because:
      'Linux drops a segment that begins as an announcement and is none, each time that it comes: the connection ' +
      'stalls. natloom passes it on untouched, and the server answers it.',
    in: ['to server', 'stalls'],
    sessions: [
      'ftp: EPRT with a dot for |',
      'ftp: EPRT with a digit for |',
      'ftp: EPRT with a blank for |',
      'ftp: EPRT with two kinds of delimiters',
      'ftp: EPRT of IPv6',
      'ftp: EPRT of a family that is none',
      'ftp: EPRT of a family in two digits',
      'ftp: EPRT without its last delimiter',
      'ftp: EPRT without an address',
      'ftp: EPRT without a port',
      'ftp: EPRT with a port of 65536',
      'ftp: EPRT with port 0',
      'ftp: EPRT with an address of five numbers',
      'ftp: PORT with a blank at its end',
      'ftp: PORT with a word after it',
      'ftp: PORT with two blanks',
      'ftp: PORT with a tab',
      'ftp: PORT with blanks between its numbers',
      'ftp: PORT with five numbers',
      'ftp: PORT with seven numbers',
      'ftp: PORT with letters',
      'ftp: PORT with a sign',
      'ftp: PORT with nothing',
    ],
  },
  {
    because: 'As before, with replies: Linux stalls the connection, natloom passes them on untouched.',
    in: ['to client', 'stalls'],
    sessions: [
      'ftp: 227 with another number before',
      'ftp: 227 with five numbers',
      'ftp: 229 without parentheses',
      'ftp: 229 with an address',
      'ftp: 229 with port 0',
    ],
  },
  {
    because:
      'Linux reads segments, and drops one that ends within an announcement, as often as it is sent again. natloom ' +
      'reads lines: it holds the beginning until the rest has come.',
    in: ['to server', 'stalls', 'expected'],
    sessions: [
      'ftp: PORT split in its word',
      'ftp: PORT split behind its word',
      'ftp: PORT split in its numbers',
      'ftp: PORT split before its last number',
      'ftp: PORT split in its last number',
      'ftp: PORT split before its end of line',
      'ftp: PORT in pieces of three bytes',
      'ftp: EPRT split in its port',
    ],
  },
  {
    because: 'As before, with replies: Linux reads segments, natloom reads lines.',
    in: ['to client', 'stalls', 'expected'],
    sessions: [
      'ftp: 227 split in its numbers',
      'ftp: 227 split in its code',
      'ftp: 229 split in its port',
      'ftp, server inside: 227 split in its numbers',
    ],
  },
  {
    because:
      'The beginning of an announcement whose end never comes: Linux drops it for ever. natloom resets the ' +
      'connection, because what has come begins to name the inside address (onHelperFailure).',
    in: ['stalls', 'reset'],
    sessions: ['ftp: the beginning of a PORT, then the end'],
  },
  {
    because: 'For Linux a command of IRC begins and ends in one segment; natloom reads lines, wherever they are cut.',
    in: ['to server', 'expected'],
    sessions: ['irc: SEND split in its address', 'irc: SEND split in its type'],
  },
  {
    because: 'Linux takes a PORT as an announcement before its line has ended, natloom when the line is complete.',
    in: ['expected'],
    sessions: ['ftp: PORT split in its end of line'],
  },
  {
    because: 'Linux wants a CR behind the numbers and drops the rest; natloom takes a line that ends with LF alone.',
    in: ['to server', 'stalls', 'expected'],
    sessions: ['ftp: PORT with the end of line of Unix'],
  },
  {
    because:
      'Linux expects a connection to port 0, then finds no port to name and drops the line; natloom passes it on.',
    in: ['to server', 'stalls', 'expected'],
    sessions: ['ftp: PORT with port 0'],
  },
  {
    because: 'As before, with a reply.',
    in: ['to client', 'stalls', 'expected'],
    sessions: ['ftp: 227 with port 0'],
  },
  {
    because:
      'Linux always writes |; natloom keeps the delimiter that the client has chosen (RFC 2428 allows 33 to 126).',
    in: ['to server'],
    sessions: ['ftp: EPRT with ! for |', 'ftp: EPRT with ~ for |', 'ftp: EPRT with a letter for |'],
  },
  {
    because: 'As before, with the delimiter of the server.',
    in: ['to client'],
    sessions: ['ftp: 229 with ! for |'],
  },
  {
    because:
      'Numbers out of range: Linux takes them modulo 256, 65536 or 2^32, and opens that port. natloom passes the ' +
      'line on untouched and opens nothing.',
    in: ['to server', 'expected'],
    sessions: [
      'ftp: EPRT with a port of 105537, which is 40001 modulo 65536',
      'ftp: PORT with 256 as the high octet of its port',
      'ftp: PORT with 300 as the low octet of its port',
      'ftp: PORT with an octet of 2^32 and 2',
      'irc: SEND with an address of 2^32 and more',
      'irc: SEND with a port of 105600, which is 40064 modulo 65536',
    ],
  },
  {
    because: 'Numbers out of range in replies: Linux even writes the number that it has made of them.',
    in: ['to client', 'expected'],
    sessions: ['ftp: 227 with octet 256', 'ftp: 229 with a port of 70000'],
  },
  {
    because:
      'No client waits for data below port 1024, where services are: natloom opens none of these ports by default.',
    in: ['to server', 'expected'],
    sessions: [
      'ftp: EPRT with a port below 1024',
      'ftp: PORT with a port below 1024',
      'irc: SEND with a port below 1024',
    ],
  },
  {
    because: 'The same ports in replies of servers, which both pass on, because they need no rewriting.',
    in: ['expected'],
    sessions: ['ftp: 227 with a port below 1024', 'ftp: 229 with a port below 1024'],
  },
  {
    because: 'natloom reads the line as a whole, and a command with something behind it is no announcement.',
    in: ['to server', 'expected'],
    sessions: ['ftp: EPRT with words after it'],
  },
  {
    because: 'RFC 2428 writes a 229 with both parentheses; natloom takes it only so.',
    in: ['expected'],
    sessions: ['ftp: 229 without its closing parenthesis'],
  },
  {
    because: 'Linux looks for one announcement in a segment, at its beginning; natloom reads each line.',
    in: ['to server', 'expected'],
    sessions: [
      'ftp: TYPE and PORT in one segment',
      'ftp: PORT twice in one segment',
      'ftp: PORT and EPRT in one segment',
      'ftp: TYPE, and half a PORT in the same segment',
      'ftp: PORT behind a command of Telnet',
      'irc: two messages in one segment',
    ],
  },
  {
    because: 'Two replies in one segment: Linux reads only its beginning.',
    in: ['expected'],
    sessions: ['ftp: 200 and 227 in one segment'],
  },
  {
    because: 'Linux does not read the first segment of a client, because it cannot know that a line begins there.',
    in: ['to server', 'expected'],
    sessions: ['ftp: PORT as the first line'],
  },
  {
    because:
      'Data that only looks like a command must not open a hole: a connection has to be FTP, or IRC, from its first ' +
      'byte on. For natloom a connection that begins otherwise, or has something else in between, is neither: it is ' +
      'not read any further.',
    in: ['to server', 'expected'],
    sessions: [
      'ftp: PORT after a line that is no command',
      'ftp: PORT before the greeting',
      'ftp: PORT in the body of a request of HTTP',
      'ftp: PORT in the body of a request of HTTP, from a server that greets',
      'irc: SEND as the first line',
      'irc: SEND in the body of a request of HTTP',
    ],
  },
  {
    because: 'A 227 or 229 opens something only if the client has asked for it, and as a reply of its own.',
    in: ['expected'],
    sessions: ['ftp: 227 that nobody asked for', 'ftp: 229 that nobody asked for', 'ftp: 227 within another reply'],
  },
  {
    because: 'Linux does not know what clients send today: names in quotes, NOTICE, prefixes, message tags.',
    in: ['to server', 'expected'],
    sessions: [
      'irc: SEND of a name in quotes, with blanks',
      'irc: SEND by NOTICE',
      'irc: SEND with a prefix',
      'irc: SEND with message tags',
    ],
  },
  {
    because:
      'Reverse DCC names port 0 and the address from which the sender will come: natloom makes it the external one.',
    in: ['to server'],
    sessions: ['irc: reverse SEND: port 0, and a token'],
  },
  {
    because: 'Linux reads two bytes of a request; natloom wants the whole of it to be one (RFC 1350, RFC 2347).',
    in: ['expected'],
    sessions: [
      'tftp: a request with an unknown mode',
      'tftp: a request without a name',
      'tftp: a request without its last zero',
      'tftp: a request with nothing but its opcode',
      'tftp: a request longer than 512 bytes',
    ],
  },
  {
    because: 'A request is the client’s; Linux takes one from the server, too.',
    in: ['expected'],
    sessions: ['tftp: a request from the server'],
  },
]
