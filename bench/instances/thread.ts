// A small NAT in a thread of its own: carries bursts on demand, by messages.

import { parentPort, workerData } from 'node:worker_threads'
import { type SmallMemory, SmallNat } from './nat.ts'

if (parentPort === null) throw new Error('instances/thread.ts is started as a worker thread')
const port = parentPort

const nat = await SmallNat.start(workerData as SmallMemory, 0)
port.on('message', (count: number) => port.postMessage(nat.carry(count)))
port.postMessage(nat.carry(1))
