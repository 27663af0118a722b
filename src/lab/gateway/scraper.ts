// A process inside the gateway's namespace that reads its metrics endpoint again and again and passes the text on: the
// endpoint listens on the namespace's own loopback, which nobody outside it reaches. Sends one message an answer; while
// the endpoint refuses, nothing.

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
    // Not up yet, or gone: the lab sees that no message comes.
  }
  await delay(everyMs)
}
