// What every packet driver is to the datapath, whatever lies behind it. Owner: a driver belongs to one thread, a shard
// or the dispatcher.
//
// A packet is named by a number: where its Ethernet header begins in the packet memory, one range that holds the
// receive rings of all ports and a scratch area. Nothing is sliced or copied on the way through.
//
//   [ ring of port 0 | ring of port 1 | ... | scratch ]   a part for each shard, one behind the other
//   [ shared ]                                            for all shards: frames on their way from one to another
//
// The ten bytes before each frame are its virtio-net header (wire/virtio-net.ts), zeros where the link knows no
// offloads. Received and sent frames both have it, so that a super-packet goes through whole.
//
// Life of a frame       who       what it may do
//   filled by the link  driver    receive() lists it
//   in the burst        shard     reads it, rewrites it in place, lists it by send()
//   listed by send()    shard     leaves its bytes as they are until flush() returns
//   flushed             driver    nothing more: the link has taken or refused it
//   lent by lend()      another   reads and sends it, then calls giveBack(); release() passes the frame over
//   released            driver    release(port) gives back all that receive(port) listed: bytes may change from now on
// Never: touching a frame after release(); release(port) between send() and flush(); two receive(port) without a
// release(port) between them; keeping a frame (what must wait is copied out, or the ring stops).

/** The most packets that one receive() lists. */
export const BURST = 64

/** The longest that wait() sleeps: a thread inside a system call can't be terminated. */
export const MAX_WAIT_MS = 50

/** Length of the virtio-net header, which lies before the Ethernet header. */
export const VIRTIO_NET_HEADER = 10

export interface Driver {
  /** Where packets lie. */
  readonly packetMemory: ArrayBufferLike
  /** Byte range of the packet memory that is the shard's own, for frames that it builds. */
  readonly scratchAt: number
  readonly scratchLength: number
  /** Byte range of the packet memory that all shards share; empty where there is one shard. */
  readonly sharedAt: number
  readonly sharedLength: number
  /** Interfaces are ports 0 .. ports-1, in the order of the configuration: inside first. */
  readonly ports: number
  /** Frames that the receive ring of each port has room for; 0 where there is none. */
  readonly receiveSlots: number

  /**
   * Lists what has arrived on a port: `at[i]` is the frame's Ethernet header, `length[i]` its bytes from there.
   * Returns how many, at most BURST. A frame that the link delivered cut short has the length that arrived.
   */
  receive(port: number, at: Int32Array, length: Int32Array): number
  /**
   * Whether so many frames, at least one, have arrived on a port and are not given back: those of the present burst,
   * and behind them what waits. For one look at the ring; a frame that is lent may make it false.
   */
  holds(port: number, frames: number): boolean
  /** Gives back every frame that the last receive() on this port listed. */
  release(port: number): void
  /**
   * Leaves a frame of the present burst to another thread: release() passes it over. Returns the token for giveBack(),
   * or -1 if the frame is not of this burst (in scratch, in another shard's ring, released). For frames too large to be
   * copied, and for a short time: the link can't fill the ring past a lent frame.
   */
  lend(at: number): number
  /** Ends a lend(): the link may fill the frame again. Any thread with a driver over the same memory may call it. */
  giveBack(token: number): void
  /** After a crash: gives back all frames that this shard had lent, except those whose token is in `inUse`. */
  reclaim(inUse: ReadonlySet<number>): void
  /** Queues a frame for a port; its virtio-net header is sent with it. */
  send(port: number, at: number, length: number): void
  /** Hands everything queued to the links, in order. What a link refuses is counted, not tried again. */
  flush(): void
  /**
   * Sleeps until a frame has arrived, another thread wakes it (each driver says how), or the time is over (at most
   * MAX_WAIT_MS). A thread that is woken while it doesn't sleep returns from its next wait() at once.
   */
  wait(timeoutMs: number): void

  /** Frames that a link refused to send since the port was opened. */
  sendFailures(port: number): number
  /** Frames that the link lost before receive() (ring full) since the port was opened. */
  receiveLosses(port: number): number
  /** Ends the use of the driver by this thread. */
  close(): void
}
