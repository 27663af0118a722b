// The helped protocols of these dialogues.

export const FTP = 21
export const IRC = 6667
