// A helper module as a user would write it, for a shard to import: its helper is the one that this process has put into
// a global variable. A bundled shard has modules of its own, so nothing else is common to both.

import type { Helper } from '../src/helpers/helper.ts'

const common = globalThis as { natloomBenchHelper?: Helper }

export const put = (helper: Helper): void => {
  common.natloomBenchHelper = helper
}

export default (): Helper => common.natloomBenchHelper!
