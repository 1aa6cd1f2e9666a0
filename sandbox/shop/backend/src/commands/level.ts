/** Print the database's schema level: one integer, 0 for an empty database. */

import { schemaLevel } from "../database.js";
import { command, connectDatabase, seconds } from "./command.js";

await command(async () => {
  const client = await connectDatabase(seconds("WAIT_SECONDS", 30));
  console.log(await schemaLevel(client));
});
