// Random cases in tests are the same in every run, so that the test command passes or fails for everybody alike. To try
// others: NLT_SEED=7 npm test; a property that fails prints its seed and path. bench/ has the long searches.

import { configureGlobal } from 'fast-check'

configureGlobal({ seed: Number(process.env.NLT_SEED ?? 20_261_130) })
