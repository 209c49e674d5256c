// Drives node-postgres through the DSN in argv[2]; prints one JSON object with what each use gave.
const pg = require('pg')

const refused = async (query) => {
  try {
    await query()
    return null
  } catch (error) {
    return error.code
  }
}

const main = async () => {
  const seen = {}
  const client = new pg.Client({ connectionString: process.argv[2] })
  await client.connect()
  seen.simple = (await client.query('select id, body from notes order by id')).rows
  seen.parameters = (await client.query('select id, tags, details from notes where id = $1', [2])).rows
  const named = { name: 'by-id', text: 'select body from notes where id = $1' }
  seen.named = []
  for (const id of [2, 3, 2]) seen.named.push((await client.query({ ...named, values: [id] })).rows[0].body)
  seen.array = (await client.query({ text: 'select id from notes order by id', rowMode: 'array' })).rows
  const inserted = await client.query('insert into notes (body, details, raw) values ($1, $2, $3) returning tenant_id, raw', ['node', { a: 1 }, Buffer.from([0, 255])])
  seen.inserted = [inserted.rowCount, inserted.rows[0].tenant_id, [...inserted.rows[0].raw]]
  seen.deleted = (await client.query('delete from notes where body = $1', ['node'])).rowCount
  await client.query('begin')
  seen.hidden = await refused(() => client.query('select * from api_keys'))
  seen.failed = await refused(() => client.query('select 1'))
  await client.query('rollback')
  seen.verb = await refused(() => client.query('delete from orders'))
  seen.after = (await client.query('select count(*)::int as n from notes')).rows[0].n
  await client.end()
  const pool = new pg.Pool({ connectionString: process.argv[2], max: 6 })
  const counts = await Promise.all(Array.from({ length: 30 }, () => pool.query('select count(*)::int as n from orders')))
  seen.pool = [...new Set(counts.map((result) => result.rows[0].n))]
  await pool.end()
  console.log(JSON.stringify(seen))
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
