// IRC sessions with the client inside: what is offered by DCC, and what only looks like it.

import { c, part, type Said, type Session, s } from './session.ts'

const LOGIN: readonly Said[] = [c('NICK alice', 'USER alice 0 * :Alice'), s(':irc.example.net 001 alice :welcome')]
const irc = (name: string, ...script: Said[]): Session => ({
  name: `irc: ${name}`,
  service: 'irc',
  script: [...LOGIN, ...script],
})
const bare = (name: string, ...script: Said[]): Session => ({ name: `irc: ${name}`, service: 'irc', script })

const dcc = (text: string): Said => c(`PRIVMSG bob :\x01DCC ${text}\x01`)

export const IRC: readonly Session[] = [
  irc('SEND', dcc('SEND notes.txt 167772162 {P} 1024'), s(':bob!b@host PRIVMSG alice :thanks')),
  irc('CHAT', dcc('CHAT chat 167772162 {P}')),
  irc('MOVE', dcc('MOVE notes.txt 167772162 {P} 1024')),
  irc('TSEND', dcc('TSEND notes.txt 167772162 {P} 1024')),
  irc('SCHAT', dcc('SCHAT chat 167772162 {P}')),
  irc('SEND without a length', dcc('SEND notes.txt 167772162 {P}')),
  irc('SEND of a name in quotes, with blanks', dcc('SEND "my notes.txt" 167772162 {P} 1024')),
  irc('SEND of a name in quotes, without blanks', dcc('SEND "notes.txt" 167772162 {P} 1024')),
  irc('SEND in small letters', dcc('send notes.txt 167772162 {P} 1024')),
  irc('SEND with the command in small letters', c('privmsg bob :\x01DCC SEND notes.txt 167772162 {P} 1024\x01')),
  irc('SEND without CTCP’s last mark', c('PRIVMSG bob :\x01DCC SEND notes.txt 167772162 {P} 1024')),
  irc('SEND by NOTICE', c('NOTICE bob :\x01DCC SEND notes.txt 167772162 {P} 1024\x01')),
  irc('SEND to several', c('PRIVMSG bob,carol :\x01DCC SEND notes.txt 167772162 {P} 1024\x01')),
  irc('SEND with text before it', c('PRIVMSG bob :look \x01DCC SEND notes.txt 167772162 {P} 1024\x01')),
  irc('SEND with a prefix', c(':alice PRIVMSG bob :\x01DCC SEND notes.txt 167772162 {P} 1024\x01')),
  irc('SEND with message tags', c('@+draft/reply=1 PRIVMSG bob :\x01DCC SEND notes.txt 167772162 {P} 1024\x01')),
  irc('SEND with the end of line of Unix', part('client', 'PRIVMSG bob :\x01DCC SEND notes.txt 167772162 {P}\x01\n')),
  irc("SEND with another host's address", dcc('SEND notes.txt 167772163 {P} 1024')),
  irc("SEND with the gateway's address", dcc('SEND notes.txt 3405803777 {P} 1024')),
  irc('SEND with a dotted address', dcc('SEND notes.txt 10.0.0.2 {P} 1024')),
  irc('SEND with an address of 2^32 and more', dcc('SEND notes.txt 4462739458 {P} 1024')),
  irc('SEND with a port of 65536', dcc('SEND notes.txt 167772162 65536 1024')),
  irc('SEND with a port of 105600, which is 40064 modulo 65536', dcc('SEND notes.txt 167772162 105600 1024')),
  irc('SEND with a port below 1024', dcc('SEND notes.txt 167772162 1010 1024')),
  irc('reverse SEND: port 0, and a token', dcc('SEND notes.txt 167772162 0 1024 17')),
  irc('the answer to a reverse SEND', dcc('SEND notes.txt 167772162 {P} 1024 17')),
  irc(
    'RESUME of what was offered, and ACCEPT',
    dcc('SEND notes.txt 167772162 {P} 1024'),
    s(':bob!b@host PRIVMSG alice :\x01DCC RESUME notes.txt {P} 512\x01'),
    dcc('ACCEPT notes.txt {P} 512'),
  ),
  irc('RESUME of what was never offered', s(':bob!b@host PRIVMSG alice :\x01DCC RESUME notes.txt {P} 512\x01')),
  irc('SEND from the server', s(':bob!b@host PRIVMSG alice :\x01DCC SEND notes.txt 3405803778 {P} 1024\x01')),
  irc('SEND split in its address', part('client', 'PRIVMSG bob :\x01DCC SEND notes.txt 1677'), c('72162 {P} 1024\x01')),
  irc('SEND split in its type', part('client', 'PRIVMSG bob :\x01DCC SE'), c('ND notes.txt 167772162 {P} 1024\x01')),
  irc('two offers in one message', dcc('SEND a.txt 167772162 {P} 1\x01\x01DCC SEND b.txt 167772162 {P1} 1')),
  irc(
    'two messages in one segment',
    c('PRIVMSG bob :\x01DCC SEND a.txt 167772162 {P} 1\x01', 'PRIVMSG carol :\x01DCC SEND b.txt 167772162 {P1} 1\x01'),
  ),
  irc('nine offers', ...[0, 1, 2, 3, 4, 5, 6, 7, 8].map((n) => dcc(`SEND ${n}.txt 167772162 {P${n}} 1`))),
  irc('a message that only talks of it', c('PRIVMSG bob :DCC SEND notes.txt 167772162 {P} 1024')),
  bare('SEND as the first line', c('PRIVMSG bob :\x01DCC SEND notes.txt 167772162 {P} 1024\x01')),
  bare(
    'SEND in the body of a request of HTTP',
    c('POST / HTTP/1.1', 'Host: 203.0.113.2:6667', 'Content-Length: 200', ''),
    s(':irc.example.net NOTICE * :who are you?'),
    c('PRIVMSG bob :\x01DCC SEND notes.txt 167772162 {P} 1024\x01'),
  ),
]
