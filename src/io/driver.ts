// What every packet driver is to the datapath, whatever lies behind it. A driver belongs to one shard (one thread).
//
// A packet is a number: where its Ethernet header begins in the driver's packet memory, one stretch of memory that holds the
// receive rings of all ports and a scratch area. Nothing is sliced or copied on the way through.
//
//   [ ring of port 0 | ring of port 1 | ... | scratch ]   a shard's own part, one behind the other
//   [ shared ]                                              all shards' (frames on their way from one to another)
//
// Ten bytes before each frame stands its virtio-net header (see wire/virtio-net.ts): zeros where the driver's link
// knows no offloads. Received and sent frames both have it, so a super-packet goes through whole.
//
// Life of a frame                      who          then
//   filled by the link                 driver       receive() lists it
//   in the burst                       shard        read, rewritten in place, perhaps listed by send()
//   listed by send()                   shard        its bytes stay as they are until flush() returns
//   flushed                            driver       the link has taken or refused it
//   lent                             shard        lend(): another thread has it now; release() passes it over, and
//                                                   whoever has it calls giveBack() when its bytes may change
//   released                           shard        release(port) gives back all that receive(port) listed: the bytes
//                                                   may change at any time after
// Never: touching a frame after release(); release(port) between send() and flush(); two receive(port) without a
// release(port) between them; keeping a frame back (what must wait is copied out, or the ring stalls).

/** As many packets as one receive() lists at most. */
export const BURST = 64

/** The virtio-net header's place: this many bytes before the Ethernet header. */
export const VIRTIO_NET_HEADER = 10

export interface Driver {
  /** Where packets lie. */
  readonly packetMemory: ArrayBufferLike
  /** Byte range of the packet memory that the shard may use as it likes. */
  readonly scratchAt: number
  readonly scratchLength: number
  /** Byte range of the packet memory that all shards share; empty where there is one shard. */
  readonly sharedAt: number
  readonly sharedLength: number
  /** Interfaces are ports 0 .. ports-1, in the order of the configuration: inside first. */
  readonly ports: number

  /**
   * Lists what has arrived on a port: `at[i]` is the frame's Ethernet header, `length[i]` its bytes from there.
   * Returns how many, at most BURST. A frame that the link delivered cut short has the length that arrived.
   */
  receive(port: number, at: Int32Array, length: Int32Array): number
  /** Gives back every frame that the last receive() on this port listed. */
  release(port: number): void
  /**
   * Leaves a frame of the present burst to another thread: release() passes it over, and its ring goes on behind it.
   * Returns its token for giveBack(), or -1 if it is none of the burst (in scratch, another shard's, released).
   * Briefly, for what is too large to be copied: the link stops when it comes round.
   */
  lend(at: number): number
  /** By whoever was lent the frame, in any thread with a driver over the same packet memory: the link may have it again. */
  giveBack(token: number): void
  /** After a crash: gives back what this shard's driver had lent and no token of `named` stands for. */
  reclaim(named: ReadonlySet<number>): void
  /** Queues a frame (its virtio-net header included) for a port. */
  send(port: number, at: number, length: number): void
  /** Hands everything queued to the links, in order. What a link refuses is counted, not tried again. */
  flush(): void
  /**
   * Sleeps until a frame has arrived, another thread woke it (each driver says how), or the time is over: at most
   * 50 ms, whatever is asked. Waking is remembered: one that comes before wait() ends the next one at once.
   */
  wait(timeoutMs: number): void

  /** Frames that a link refused to send since the port was opened. */
  sendFailures(port: number): number
  /** Frames that the link lost before receive() (ring full) since the port was opened. */
  receiveLosses(port: number): number
  /** Ends the use of the driver by this thread. */
  close(): void
}
