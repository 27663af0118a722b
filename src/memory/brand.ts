// Types that say what a number is. They exist for the compiler alone: at run time each is a plain number. A plain
// number (a literal, a sum, a load from a table) becomes any of them without a cast; one of them never becomes another,
// so that a row can't be passed for an address, nor an address in numeric order for one as loaded.

/** A number that is a `Name`; several names, separated by |, for a type that takes in others. */
export type Brand<Name extends string> = number & { readonly brand?: Name }

/** A typed array whose numbers are all of one kind. */
export type Column<T extends number> = Int32Array & { [index: number]: T }

/** A row of a table (memory/rows.ts); row 0 is never used and means none. */
export type Row = Brand<'Row'>

/** The generation of a row: which use of it this is (memory/rows.ts). */
export type Generation = Brand<'Generation'>

/** A handle of an expectation: its slot and the generation of its use (conntrack/expectation-table.ts). */
export type Handle = Brand<'Handle'>

/** Number of an external address: its entry in the table of them (nat/externals.ts). */
export type Entry = Brand<'Entry'>

/** A port among those of all external addresses and protocols: where its word lies (nat/externals.ts). */
export type PortIndex = Brand<'PortIndex'>

/** Number of a helper, 1 to 255 (helpers/registry.shard.ts); 0 stands for none. */
export type HelperId = Brand<'HelperId'>

/** Number of a shard, from 0 on; the dispatcher's is the number of shards. */
export type Shard = Brand<'Shard'>

/** Since the gateway's start, where nothing else is said. */
export type Seconds = Brand<'Seconds'>
export type Milliseconds = Brand<'Milliseconds'>
