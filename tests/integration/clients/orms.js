// Drives the query builders and ORMs of Node through the DSN in argv[2]; prints one JSON object with what each gave.
require('reflect-metadata')

const dsn = process.argv[2]
const refused = async (query) => {
  try {
    await query()
    return null
  } catch (error) {
    return (error.original ?? error.driverError ?? error.cause ?? error).code
  }
}

const knex = async () => {
  const db = require('knex')({ client: 'pg', connection: dsn, pool: { min: 0, max: 3 } })
  const seen = {
    rows: await db('notes').select('id', 'body').orderBy('id'),
    joined: (await db('orders as o').join('customers as c', 'c.id', 'o.customer_id').count('* as n').first()).n,
    written: await db.transaction(async (trx) => {
      const [made] = await trx('notes').insert({ body: 'knex', details: { a: 1 } }).returning(['tenant_id', 'details'])
      await trx('notes').where({ body: 'knex' }).update({ pinned: true })
      return [made, await trx('notes').where({ body: 'knex' }).delete()]
    }),
    columns: Object.keys(await db('notes').columnInfo()),
    tables: [await db.schema.hasTable('notes'), await db.schema.hasTable('api_keys')],
    hidden: await refused(() => db('api_keys').select()),
    verb: await refused(() => db('orders').delete()),
  }
  await db.destroy()
  return seen
}

const sequelize = async () => {
  const { Sequelize, DataTypes, Op } = require('sequelize')
  const db = new Sequelize(dsn, { logging: false })
  const options = { timestamps: false }
  const Note = db.define('note', { body: DataTypes.TEXT, details: DataTypes.JSONB, tags: DataTypes.ARRAY(DataTypes.TEXT) }, { ...options, tableName: 'notes' })
  const Customer = db.define('customer', { name: DataTypes.TEXT }, { ...options, tableName: 'customers' })
  const Order = db.define('order', { total: DataTypes.DECIMAL, customer_id: DataTypes.INTEGER }, { ...options, tableName: 'orders' })
  const Key = db.define('key', { secret: DataTypes.TEXT }, { ...options, tableName: 'api_keys' })
  Order.belongsTo(Customer, { foreignKey: 'customer_id' })
  const queries = db.getQueryInterface()
  const seen = {
    rows: (await Note.findAll({ attributes: ['id', 'body'], order: ['id'] })).map((note) => note.toJSON()),
    joined: String((await Order.findAll({ include: { model: Customer, required: true } })).length),
    written: await db.transaction(async (transaction) => {
      const made = await Note.create({ body: 'sequelize', details: { a: 1 }, tags: ['x'] }, { transaction })
      const found = await Note.count({ where: { tags: { [Op.contains]: ['x'] } }, transaction })
      await made.update({ body: 'sequelize 2' }, { transaction })
      return [found, await Note.destroy({ where: { body: 'sequelize 2' }, transaction })]
    }),
    columns: Object.keys(await queries.describeTable('notes')),
    tables: (await queries.showAllTables()).map((table) => table.tableName ?? table),
    indexes: (await queries.showIndex('orders')).map((index) => index.name),
    hidden: await refused(() => Key.findAll()),
    verb: await refused(() => Order.destroy({ where: {} })),
  }
  await db.close()
  return seen
}

const typeorm = async () => {
  const { DataSource, EntitySchema } = require('typeorm')
  const Note = new EntitySchema({
    name: 'Note', tableName: 'notes',
    columns: { id: { type: 'int', primary: true, generated: 'increment' }, body: { type: 'text' }, details: { type: 'jsonb', default: {} } },
  })
  const Customer = new EntitySchema({ name: 'Customer', tableName: 'customers', columns: { id: { type: 'int', primary: true }, name: { type: 'text' } } })
  const Order = new EntitySchema({
    name: 'Order', tableName: 'orders', columns: { id: { type: 'int', primary: true }, total: { type: 'numeric' } },
    relations: { customer: { type: 'many-to-one', target: 'Customer', joinColumn: { name: 'customer_id' } } },
  })
  const Key = new EntitySchema({ name: 'Key', tableName: 'api_keys', columns: { id: { type: 'int', primary: true }, secret: { type: 'text' } } })
  const db = await new DataSource({ type: 'postgres', url: dsn, entities: [Note, Customer, Order, Key], installExtensions: false }).initialize()
  const runner = db.createQueryRunner()
  const tables = await runner.getTables()
  const seen = {
    rows: await db.getRepository('Note').find({ select: { id: true, body: true }, order: { id: 'ASC' } }),
    joined: String((await db.getRepository('Order').find({ relations: { customer: true } })).filter((order) => order.customer.name).length),
    written: await db.transaction(async (manager) => {
      const made = await manager.save('Note', { body: 'typeorm', details: { a: 1 } })
      await manager.update('Note', made.id, { body: 'typeorm 2' })
      return [typeof made.id, (await manager.delete('Note', { body: 'typeorm 2' })).affected]
    }),
    columns: tables.find((table) => table.name.endsWith('notes')).columns.map((column) => column.name),
    tables: tables.map((table) => table.name),
    keys: tables.flatMap((table) => table.foreignKeys.map((key) => `${table.name} ${key.referencedTableName}`)),
    hidden: await refused(() => db.getRepository('Key').find()),
    verb: await refused(() => db.getRepository('Order').createQueryBuilder().delete().execute()),
  }
  await runner.release()
  await db.destroy()
  return seen
}

const kysely = async () => {
  const { Kysely, PostgresDialect } = require('kysely')
  const { Pool } = require('pg')
  const db = new Kysely({ dialect: new PostgresDialect({ pool: new Pool({ connectionString: dsn, max: 3 }) }) })
  const tables = await db.introspection.getTables()
  const seen = {
    rows: await db.selectFrom('notes').select(['id', 'body']).orderBy('id').execute(),
    joined: (await db.selectFrom('orders as o').innerJoin('customers as c', 'c.id', 'o.customer_id').select((each) => each.fn.countAll().as('n')).executeTakeFirst()).n,
    written: await db.transaction().execute(async (trx) => {
      const made = await trx.insertInto('notes').values({ body: 'kysely' }).returning(['tenant_id']).executeTakeFirst()
      const gone = await trx.deleteFrom('notes').where('body', '=', 'kysely').executeTakeFirst()
      return [made, String(gone.numDeletedRows)]
    }),
    columns: tables.find((table) => table.name === 'notes').columns.map((column) => column.name),
    tables: tables.map((table) => table.name),
    hidden: await refused(() => db.selectFrom('api_keys').selectAll().execute()),
    verb: await refused(() => db.deleteFrom('orders').execute()),
  }
  await db.destroy()
  return seen
}

const drizzle = async () => {
  const { drizzle } = require('drizzle-orm/node-postgres')
  const { pgTable, integer, text, jsonb, numeric } = require('drizzle-orm/pg-core')
  const { asc, eq, relations, sql } = require('drizzle-orm')
  const { Pool } = require('pg')
  const pool = new Pool({ connectionString: dsn, max: 3 })
  const notes = pgTable('notes', { id: integer('id').primaryKey().generatedByDefaultAsIdentity(), body: text('body'), details: jsonb('details') })
  const customers = pgTable('customers', { id: integer('id').primaryKey(), name: text('name') })
  const orders = pgTable('orders', { id: integer('id').primaryKey(), total: numeric('total'), customerId: integer('customer_id') })
  const keys = pgTable('api_keys', { id: integer('id').primaryKey(), secret: text('secret') })
  const related = relations(orders, ({ one }) => ({ customer: one(customers, { fields: [orders.customerId], references: [customers.id] }) }))
  const db = drizzle(pool, { schema: { notes, customers, orders, keys, related } })
  const seen = {
    rows: await db.select({ id: notes.id, body: notes.body }).from(notes).orderBy(asc(notes.id)),
    joined: String((await db.query.orders.findMany({ with: { customer: true } })).filter((order) => order.customer.name).length),
    written: await db.transaction(async (tx) => {
      const [made] = await tx.insert(notes).values({ body: 'drizzle', details: { a: 1 } }).returning()
      const gone = await tx.delete(notes).where(eq(notes.id, made.id)).returning({ body: notes.body })
      return [made.details, gone]
    }),
    hidden: await refused(() => db.select().from(keys)),
    verb: await refused(() => db.delete(orders)),
    after: (await db.execute(sql`select count(*)::int as n from notes`)).rows[0].n,
  }
  await pool.end()
  return seen
}

const main = async () => {
  const seen = {}
  for (const [name, drive] of Object.entries({ knex, sequelize, typeorm, kysely, drizzle })) seen[name] = await drive()
  console.log(JSON.stringify(seen))
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
