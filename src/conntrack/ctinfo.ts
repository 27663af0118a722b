// What a packet is to its connection (enum ip_conntrack_info). Which of them it is, track.shard.ts says.

export const CT_ESTABLISHED = 0
export const CT_RELATED = 1
export const CT_NEW = 2
/** Added in the reply direction. */
export const CT_IS_REPLY = 3
