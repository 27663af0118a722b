// A process inside the gateway's namespace that reads the metrics endpoint again and again and sends each text to the
// lab. It runs inside because the endpoint listens on that namespace's loopback, which can't be reached from elsewhere.

import { setTimeout as delay } from 'node:timers/promises'
import { PATIENCE_MS } from '../world/patience.ts'

export interface Scraper {
  readonly url: string
  readonly everyMs: number
}

const { url, everyMs } = JSON.parse(process.argv[2] ?? '{}') as Scraper

process.on('disconnect', () => process.exit(0))

for (;;) {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(PATIENCE_MS) })
    if (answer.ok) process.send?.(await answer.text())
  } catch {
    // The gateway is not up yet, or has ended: the lab sees that no message comes.
  }
  await delay(everyMs)
}
