// The scenario `forward`: all that a LAN asks of its gateway on an ordinary day, at once. Downloads, echoes from many
// sockets, datagrams that travel as fragments, pings, traces, 2,000 connections held, and hosts inside that reach each
// other by hole punching.

import type { Connections } from '../traffic/connections.ts'
import type { Datagrams } from '../traffic/datagrams.ts'
import type { Downloads } from '../traffic/downloads.ts'
import { ping, traceroute } from '../traffic/probes.ts'
import type { Punching } from '../traffic/punching.ts'
import { ECHO_PORT, HTTP_PORT, UDP_ECHO_PORTS } from '../traffic/traffic.ts'
import { GATEWAY_INSIDE, INSIDE_HOSTS, REMOTE, SERVER } from '../world/topology.ts'
import { type Load, type Scenario, traffic } from './scenario.ts'

const KB = 1024
const MB = 1024 * KB

const downloads: Downloads = {
  from: INSIDE_HOSTS,
  servers: [SERVER, REMOTE].map((host) => `${host}:${HTTP_PORT}`),
  // Five sizes and two servers, so that each size comes from each server.
  sizes: [KB, 30 * KB, 200 * KB, MB, 8 * MB],
  downloads: 100,
  atATime: 8,
}

const echoes: Datagrams = {
  host: SERVER,
  from: INSIDE_HOSTS,
  port: UDP_ECHO_PORTS[0],
  sockets: 500,
  datagrams: 20,
  sizes: [16, 64, 512, 1400],
  underWay: 32,
}

/** One address with many ports, because ports, too, spread flows over shards. */
const oneHost: Datagrams = {
  host: SERVER,
  from: INSIDE_HOSTS.slice(0, 1),
  port: UDP_ECHO_PORTS[1],
  sockets: 500,
  datagrams: 4,
  sizes: [64],
  underWay: 32,
}

const fragments: Datagrams = {
  host: SERVER,
  from: INSIDE_HOSTS,
  port: UDP_ECHO_PORTS[2],
  sockets: 10,
  datagrams: 20,
  sizes: [4000, 20_000],
  underWay: 2,
}

const connections: Connections = {
  host: SERVER,
  from: INSIDE_HOSTS,
  port: ECHO_PORT,
  connections: 2000,
  atATime: 50,
}

const punching = (protocol: Punching['protocol']): Punching => ({
  protocol,
  host: SERVER,
  from: INSIDE_HOSTS,
  pairs: 56,
  atATime: 4,
  messages: 5,
})

const hops = [GATEWAY_INSIDE, REMOTE]

const LOADS: readonly Load[] = [
  traffic('HTTP downloads, by SHA-256', new URL('../traffic/downloads.js', import.meta.url), downloads),
  traffic('UDP echoes, eight hosts', new URL('../traffic/datagrams.js', import.meta.url), echoes),
  traffic('UDP echoes, 500 of one host', new URL('../traffic/datagrams.js', import.meta.url), oneHost),
  traffic('UDP 4,000 and 20,000 bytes', new URL('../traffic/datagrams.js', import.meta.url), fragments),
  traffic('TCP connections held', new URL('../traffic/connections.js', import.meta.url), connections),
  {
    ...traffic('hole punching by UDP', new URL('../traffic/punching.js', import.meta.url), punching('udp')),
    hairpins: true,
  },
  {
    ...traffic('hole punching by TCP', new URL('../traffic/punching.js', import.meta.url), punching('tcp')),
    hairpins: true,
  },
  {
    name: 'ping',
    start: ({ processes, topology }, seen) => ping(processes, topology, { target: REMOTE, count: 20, size: 56 }, seen),
  },
  {
    name: 'ping, 3,000 bytes',
    start: ({ processes, topology }, seen) =>
      ping(processes, topology, { target: SERVER, count: 10, size: 3000 }, seen),
  },
  {
    name: 'traceroute by UDP',
    start: ({ processes, topology }, seen) => traceroute(processes, topology, { by: 'udp', hops }, seen),
  },
  {
    name: 'traceroute by ICMP',
    start: ({ processes, topology }, seen) => traceroute(processes, topology, { by: 'icmp', hops }, seen),
  },
]

export const forward: Scenario = {
  name: 'forward',
  summary: 'downloads, echoes, fragments, pings, traces, hole punching and 2,000 connections, all at once',
  loads: LOADS,
}
