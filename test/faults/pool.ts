// Runs struck.ts in a pool's worker thread, as shards run, and in the main thread; prints what became of each.

import { fileURLToPath } from 'node:url'
import { Piscina } from 'piscina'
import struck from './struck.ts'

const LIVES = 1000

const inMain = struck(LIVES)
const pool = new Piscina({
  minThreads: 1,
  maxThreads: 1,
  filename: fileURLToPath(new URL('./struck.js', import.meta.url)),
})
pool.on('error', () => {})
const inWorker = await pool.run(LIVES).catch((error: Error) => `${error.name}: ${error.message}`)
await pool.destroy()
console.log(JSON.stringify({ inMain, inWorker }))
