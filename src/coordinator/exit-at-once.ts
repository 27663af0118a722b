// Ends the process whatever its threads do. process.exit() joins the worker threads, so it waits as long as one of them
// is in a system call or a child process that doesn't return. _exit(2) waits for nobody. It also runs nothing that is
// registered for the end of the process, so it is only for where an ordinary exit would not come.

import { exitProcess } from '../io/syscalls.ts'

export const exitAtOnce = (code: number): never => exitProcess(code)
