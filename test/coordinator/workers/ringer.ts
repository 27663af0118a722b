// A thread that rings the doorbell as many times as it is told, or only listens to it.

import { workerData } from 'node:worker_threads'
import { Doorbell } from '../../../src/coordinator/workers/doorbell.ts'
import { ControlWords } from '../../../src/memory/control-words.ts'
import { Region } from '../../../src/memory/region.ts'

const { buffer, times, listens } = workerData as { buffer: SharedArrayBuffer; times: number; listens?: boolean }
const words = new ControlWords(new Region(buffer), 1)
if (listens) new Doorbell(words, () => {})
for (let i = 0; i < times; i++) words.ring()
