// Runs in the outside host: greets whoever connects on the ports of helped protocols, and answers every line.

import { once } from 'node:events'
import { createServer } from 'node:net'
import { FTP, IRC } from './ports.ts'

function serve(port: number, greeting: string, answer: string): Promise<unknown> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.write(greeting)
    socket.on('data', (bytes) => {
      if (bytes.includes('\n')) socket.write(answer)
    })
  })
  return once(server.listen(port, '0.0.0.0'), 'listening')
}

process.on('disconnect', () => process.exit(0))
await serve(FTP, '220 ready\r\n', '200 done\r\n')
await serve(IRC, ':server 001 you :welcome\r\n', ':server NOTICE you :done\r\n')
process.send?.('listening')
