import type { Gateway } from './gateway-options.ts'
import type { Stage } from './scenario.ts'
export async function* ftpStory(_stage: Stage, _gateway: Gateway): AsyncGenerator<string> {
  yield ''
}
