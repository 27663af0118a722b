// Sequences that are a story each: how real stacks open, close, break off and begin again. Notation: script.ts.

interface Story {
  readonly name: string
  readonly script: string
}

const HANDSHAKE = 'c S 0\ns SA 0 ack 1\nc A 1 ack 1\n'

/** A login, and an announcement: what c sends from 12 to 34 comes to s as 12 to 37, for its address is longer there. */
const PORT = 'PORT 10,0,0,5,{port}\\r\\n'
const LOGIN = `open inside helped\nc S 0 <sackOK>\ns SA 0 ack 1 <sackOK>\nc A 1 ack 1\ns PA 1"220 x\\r\\n" ack 1\nc PA 1"USER annA\\r\\n" ack 8\ns A 8 ack 12\n`
const ANNOUNCED = `${LOGIN}c PA 12"${PORT}" ack 8\n`

const HELPED_STORIES: readonly Story[] = [
  {
    name: 'helped: acknowledged, data',
    script: `${ANNOUNCED}s A 8 ack 37\ns PA 8+10 ack 37\nc A 34 ack 18\nc PA 34+10 ack 18\ns A 18 ack 47`,
  },
  {
    name: 'helped: announcement again',
    script: `${ANNOUNCED}c PA 12"${PORT}" ack 8\ns A 8 ack 37\nc PA 34+10 ack 8\ns A 8 ack 47`,
  },
  {
    name: 'helped: acknowledged late',
    script: `${ANNOUNCED}s A 8 ack 12\nc PA 34+100 ack 8\ns A 8 ack 37\ns A 8 ack 137`,
  },
  { name: 'helped: one byte more is acknowledged', script: `${ANNOUNCED}s A 8 ack 38\ns A 8 ack 37\ns PA 8+10 ack 37` },
  {
    name: 'helped: SACK',
    script: `${ANNOUNCED}c PA 44+10 ack 8\ns A 8 ack 37 <sack 47:57>\ns A 8 ack 37 <sack 47:58>\nc PA 34+10 ack 8\ns A 8 ack 57`,
  },
  {
    name: 'helped: two announcements',
    script: `${ANNOUNCED}s A 8 ack 37\nc PA 34"${PORT}" ack 8\ns A 8 ack 62\nc PA 56+10 ack 8\ns A 8 ack 72`,
  },
  {
    name: 'helped: closed by c',
    script: `${ANNOUNCED}s A 8 ack 37\nc FA 34 ack 8\ns A 8 ack 38\ns FA 8 ack 38\nc A 35 ack 9`,
  },
  { name: 'helped: closed by s', script: `${ANNOUNCED}s FA 8 ack 37\nc FA 34 ack 9\ns A 9 ack 38` },
  { name: 'helped: reset by c', script: `${ANNOUNCED}s A 8 ack 37\nc R 34\ns A 8 ack 37` },
  { name: 'helped: reset by s', script: `${ANNOUNCED}s RA 8 ack 37\nc PA 34+10 ack 8` },
  { name: 'helped: reset by s, not exact', script: `${ANNOUNCED}s R 11\nc A 34 ack 8\ns R 8` },
  {
    name: 'helped: keep-alives',
    script: `${ANNOUNCED}s A 8 ack 37\nc A 33 ack 8\ns A 8 ack 37\ns A 7 ack 37\nc A 34 ack 8`,
  },
  {
    name: 'helped: blind segments',
    script: `${ANNOUNCED}s A 8 ack 37\ns FA 9000000 ack 37\ns FA 8 ack 9000000\ns R 9000000\ns S 9000000\ns SA 9000000 ack 37\nc PA 34+10 ack 8\ns A 8 ack 47`,
  },
  {
    name: 'helped: closed, the tuple again',
    script: `${ANNOUNCED}s FA 8 ack 37\nc FA 34 ack 9\ns A 9 ack 38\nc A 35 ack 9\nc S 100000 <sackOK>\ns SA 100000 ack 100001 <sackOK>\nc A 100001 ack 100001`,
  },
]

export const STORIES: readonly Story[] = [
  {
    name: 'simultaneous open with SYN/ACKs',
    script: 'c S 0\ns S 0\nc SA 0 ack 1\ns SA 0 ack 1\nc PA 1+10 ack 1\ns A 1 ack 11',
  },
  { name: 'simultaneous open with ACKs', script: 'c S 0\ns S 0\ns A 1 ack 1\nc A 1 ack 1' },
  {
    name: 'simultaneous open, ended by the reply',
    script: 'c S 0\ns S 0\nc SA 0 ack 1\ns A 1 ack 1\nc FA 1 ack 1\ns A 1 ack 2',
  },
  {
    name: 'simultaneous open from outside',
    script: 'open outside\nc S 0 <wscale 7>\ns S 0 <wscale 7>\ns SA 0 ack 1\nc A 1 ack 1\ns PA 1+10 ack 1',
  },
  { name: 'split handshake', script: 'c S 0\ns A 0 ack 1\ns S 0\nc SA 0 ack 1\ns A 1 ack 1\nc PA 1+5 ack 1' },
  {
    name: 'split handshake without the ACK',
    script: 'c S 0\ns S 0\nc SA 0 ack 1\ns A 1 ack 1\ns PA 1+5 ack 1\nc A 1 ack 6',
  },
  {
    name: 'half-open: challenge, reset, SYN again',
    script: 'c S 0\ns A 90000 ack 70000\nc R 70000\nc S 0\ns SA 0 ack 1\nc A 1 ack 1',
  },
  {
    name: 'half-open: a wrong reset',
    script: 'c S 0\ns A 90000 ack 70000\nc R 70001\nc S 0\ns SA 0 ack 1\nc A 1 ack 1',
  },
  { name: 'refused', script: 'c S 0\ns RA 0 ack 1\nc S 100\ns RA 0 ack 101' },
  { name: 'refused with number zero', script: 'c S 0\ns RA -5000 ack 1\ns SA 0 ack 1' },
  { name: 'refused with a wrong acknowledgment', script: 'c S 0\ns RA 0 ack 77\ns SA 0 ack 1\nc A 1 ack 1' },
  { name: 'client gives up', script: 'c S 0\nc R 1\ns SA 0 ack 1' },
  {
    name: 'SYN retransmitted, then with a new number',
    script: 'c S 0\nc S 0\nc S 5000\ns SA 0 ack 5001\nc A 5001 ack 1',
  },
  {
    name: 'SYN/ACK for the older of two SYNs',
    script: 'c S 0\nc S 5000\ns SA 0 ack 1\nc R 1\ns SA 0 ack 5001\nc A 5001 ack 1',
  },
  {
    name: 'old SYN/ACK, reset, right SYN/ACK',
    script: 'c S 0\ns SA -90000 ack -4000\nc R -4000\ns SA 0 ack 1\nc A 1 ack 1',
  },
  {
    name: 'server restarts with another number before the ACK',
    script: 'c S 0\ns SA 0 ack 1\ns SA 9000 ack 1\nc A 1 ack 9001\nc PA 1+10 ack 9001',
  },
  { name: 'fast open', script: 'c S 0+100\ns SA 0 ack 101\nc A 101 ack 1\ns PA 1+10 ack 101' },
  { name: 'fast open, data refused', script: 'c S 0+100\ns SA 0 ack 1\nc PA 1+100 ack 1\ns A 1 ack 101' },
  {
    name: 'fast open, data with the SYN/ACK',
    script: 'c S 0+100\ns SA 0+50 ack 101\ns PA 51+50 ack 101\nc A 101 ack 101',
  },
  { name: 'data before the handshake is over', script: 'c S 0\ns SA 0 ack 1\nc PA 1+100 ack 1\ns A 1 ack 101' },
  { name: 'both close at once', script: `${HANDSHAKE}c FA 1 ack 1\ns FA 1 ack 1\nc A 2 ack 2\ns A 2 ack 2` },
  {
    name: 'FIN acknowledged by a FIN',
    script: `${HANDSHAKE}s FA 1 ack 1\nc FA 1 ack 2\ns A 2 ack 2\nc FA 1 ack 2\ns A 2 ack 2`,
  },
  {
    name: 'half-closed, data goes on',
    script: `${HANDSHAKE}c FA 1 ack 1\ns A 1 ack 2\ns PA 1+1000 ack 2\nc A 2 ack 1001\ns PA 1001+1000 ack 2\nc A 2 ack 2001\ns FA 2001 ack 2\nc A 2 ack 2002`,
  },
  {
    name: 'FIN, then data that it overtook',
    script: `${HANDSHAKE}c FA 101 ack 1\nc PA 1+100 ack 1\ns A 1 ack 102\ns FA 1 ack 102\nc A 102 ack 2`,
  },
  { name: 'reset after FIN', script: `${HANDSHAKE}c FA 1 ack 1\nc R 2\ns A 1 ack 2\nc R 2` },
  { name: 'reset after both FINs', script: `${HANDSHAKE}c FA 1 ack 1\ns FA 1 ack 2\nc RA 2 ack 2\nc S 100000` },
  {
    name: 'TIME_WAIT, SYN ahead',
    script: `${HANDSHAKE}c FA 1 ack 1\ns FA 1 ack 2\nc A 2 ack 2\nc S 100000\ns SA 100000 ack 100001\nc A 100001 ack 100001`,
  },
  {
    name: 'TIME_WAIT, SYN behind',
    script: `${HANDSHAKE}c FA 1 ack 1\ns FA 1 ack 2\nc A 2 ack 2\nc S -100000\ns A 2 ack 2\nc R 2`,
  },
  {
    name: 'TIME_WAIT, SYN of the server',
    script: `${HANDSHAKE}c FA 1 ack 1\ns FA 1 ack 2\nc A 2 ack 2\ns S 100000\nc SA 100000 ack 100001\ns A 100001 ack 100001`,
  },
  {
    name: 'TIME_WAIT, SYN of the inside server',
    script: `open outside\n${HANDSHAKE}c FA 1 ack 1\ns FA 1 ack 2\nc A 2 ack 2\ns S 100000\nc SA 100000 ack 100001\ns A 100001 ack 100001`,
  },
  {
    name: 'LAST_ACK, SYN, challenge',
    script: `${HANDSHAKE}c FA 1 ack 1\ns FA 1 ack 2\nc S 100000\ns A 2 ack 2\nc R 2\nc S 100000`,
  },
  {
    name: 'LAST_ACK, SYN, challenge twice',
    script: `${HANDSHAKE}c FA 1 ack 1\ns FA 1 ack 2\nc S 100000\ns A 2 ack 2\ns A 2 ack 2\nc A 2 ack 2`,
  },
  {
    name: 'client rebooted: SYN, challenge, reset, SYN',
    script: `${HANDSHAKE}c PA 1+100 ack 1\ns A 1 ack 101\nc S 777777\ns A 1 ack 101\nc R 101\nc S 777777\ns SA 100000 ack 777778\nc A 777778 ack 100001`,
  },
  {
    name: 'client rebooted, server has forgotten',
    script: `${HANDSHAKE}c PA 1+100 ack 1\ns A 1 ack 101\nc S 777777\ns SA 100000 ack 777778\nc A 777778 ack 100001\nc PA 777778+10 ack 100001`,
  },
  {
    name: 'server rebooted: reset of data',
    script: `${HANDSHAKE}c PA 1+100 ack 1\ns R 1\nc S 100000\ns SA 100000 ack 100001`,
  },
  {
    name: 'server rebooted: reset with another number',
    script: `${HANDSHAKE}c PA 1+100 ack 1\ns R 2\nc A 101 ack 1\ns R 1`,
  },
  {
    name: 'reset before an old acknowledgment',
    script: `${HANDSHAKE}s PA 1+100 ack 1\nc A 1 ack 101\ns R 50\ns R 100\ns R 101`,
  },
  { name: 'reset behind its own data', script: `${HANDSHAKE}s A 1+100 ack 1\ns R 101\nc A 1 ack 101` },
  { name: 'reset of an end that has acknowledged nothing', script: 'c S 0\ns SA 0 ack 1\ns R 1\nc A 1 ack 1' },
  {
    name: 'keep-alives for long',
    script: `${HANDSHAKE}c A 0 ack 1\ns A 1 ack 1\nc A 0 ack 1\ns A 1 ack 1\ns A 0 ack 1\nc A 1 ack 1`,
  },
  {
    name: 'keep-alive before any data',
    script: 'c S 0\ns SA 0 ack 1\nc A 1 ack 1\ns A 0 ack 1\nc A 1 ack 1\ns A 0+1 ack 1\nc A 1 ack 1',
  },
  {
    name: 'zero window from the beginning',
    script:
      'c S 0 win 0\ns SA 0 ack 1 win 0\nc A 1 ack 1 win 0\ns PA 1+1 ack 1 win 0\nc A 1 ack 1 win 0\nc A 1 ack 1 win 1000\ns PA 1+1000 ack 1',
  },
  {
    name: 'window shrinks',
    script: `${HANDSHAKE}s A 1+1000 ack 1\nc A 1 ack 1001 win 1000\nc A 1 ack 1001 win 10\ns A 1001+1000 ack 1\ns A 2001+1 ack 1`,
  },
  {
    name: 'more data than the window, acknowledged',
    script:
      'c S 0 win 1000\ns SA 0 ack 1 win 1000\nc A 1 ack 1 win 1000\ns A 1+1000 ack 1\ns A 1001+1000 ack 1\ns A 2001+1000 ack 1\nc A 1 ack 3001 win 1000\ns A 3001+1000 ack 1',
  },
  {
    name: 'SACK without permission',
    script: 'c S 0\ns SA 0 ack 1 <sackOK>\nc A 1 ack 1 <sack 100:200>\ns A 1 ack 1 <sack 100:200>',
  },
  {
    name: 'SACK with permission',
    script:
      'c S 0 <sackOK>\ns SA 0 ack 1 <sackOK>\nc A 1 ack 1\ns A 101+100 ack 1\nc A 1 ack 1 <sack 101:201>\nc A 1 ack 1 <sack 101:202>\nc A 1 ack 1 <sack 50:60,sack 101:201>',
  },
  {
    name: 'D-SACK',
    script:
      'c S 0 <sackOK>\ns SA 0 ack 1 <sackOK>\nc A 1 ack 1\ns A 1+100 ack 1\nc A 1 ack 101 <sack 1:101>\ns A 1+100 ack 1\nc A 1 ack 101 <sack 1:51>',
  },
  {
    name: 'timestamps and SACK',
    script:
      'c S 0 <sackOK,ts>\ns SA 0 ack 1 <sackOK,ts>\nc A 1 ack 1 <ts>\ns A 101+100 ack 1 <ts>\nc A 1 ack 1 <ts,sack 101:201>\nc A 1 ack 1 <ts,sack 101:202>',
  },
  {
    name: 'numbers wrap in the data',
    script:
      'open inside isn 4294967290 4294967280\nc S 0\ns SA 0 ack 1\nc A 1 ack 1\nc PA 1+100 ack 1\ns PA 1+100 ack 101\nc A 101 ack 101\nc FA 101 ack 101\ns FA 101 ack 102\nc A 102 ack 102',
  },
  {
    name: 'a SYN/ACK whose number wraps',
    script: 'open inside isn 4294967295 4294967295\nc S 0\ns SA 0 ack 1\nc A 1 ack 1\ns R 1',
  },
  {
    name: 'blind FIN',
    script: `${HANDSHAKE}c PA 1+100 ack 1\ns A 1 ack 101\ns FA 123456789 ack 987654321\ns FA 123456790 ack 987654321\nc PA 101+100 ack 1\ns A 1 ack 201`,
  },
  {
    name: 'blind SYN',
    script: `${HANDSHAKE}c PA 1+100 ack 1\ns A 1 ack 101\ns S 123456789\nc PA 101+100 ack 1\ns A 1 ack 201`,
  },
  {
    name: 'blind RSTs in steps of a window',
    script: `${HANDSHAKE}c PA 1+100 ack 1\ns R 64000\ns R 128000\ns R 192000\ns R 4294900000\ns A 1 ack 101`,
  },
  { name: 'blind ACKs', script: `${HANDSHAKE}c PA 1+100 ack 1\ns A 1 ack 2000000\ns A 1 ack -2000000\ns A 1 ack 101` },
  {
    name: 'data that only one side sees acknowledged',
    script: `${HANDSHAKE}c A 1+1400 ack 1\nc A 1401+1400 ack 1\nc A 2801+1400 ack 1\ns A 1 ack 1401\ns A 1 ack 4201\nc A 1+1400 ack 1\ns A 1 ack 4201`,
  },
  ...HELPED_STORIES,
]
