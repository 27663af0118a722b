// A user's helper module, as a shard imports one: it hands over the helper that this process has put here, because a
// bundled shard has modules of its own.

import type { Helper } from '../src/helpers/helper.ts'

const place = globalThis as { natloomBenchHelper?: Helper }

export const put = (helper: Helper): void => {
  place.natloomBenchHelper = helper
}

export default (): Helper => place.natloomBenchHelper!
