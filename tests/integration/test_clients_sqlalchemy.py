"""SQLAlchemy 2's ORM over psycopg and asyncpg, unchanged but for the DSN."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[list[Order]] = relationship(back_populates="customer")


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"))
    status: Mapped[str]
    total: Mapped[float]
    customer: Mapped[Customer] = relationship(back_populates="orders")


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(server_default=sa.FetchedValue())
    body: Mapped[str]
    tags: Mapped[list[str]] = mapped_column(ARRAY(sa.Text))
    details: Mapped[dict] = mapped_column(JSONB)
    day: Mapped[dt.date | None]


@pytest.fixture
def engine(proxy):
    made = sa.create_engine(proxy.dsn(scheme="postgresql+psycopg"))
    yield made
    made.dispose()


def test_the_orm_round_trip_works(engine):
    with Session(engine) as session:
        note = Note(body="from the ORM", tags=["x", "y"], details={"a": [1]}, day=dt.date(2026, 5, 4))
        session.add(note)
        session.commit()
        assert note.tenant_id == 42
        note.body = "changed"
        session.commit()
        found = session.scalars(sa.select(Note).where(Note.tags.contains(["x"])).order_by(Note.id)).all()
        assert [(item.body, item.details) for item in found] == [("changed", {"a": [1]})]
        session.delete(note)
        session.commit()
        assert session.scalar(sa.select(sa.func.count()).select_from(Note)) == 2


def test_relationships_load_own_rows_only(engine):
    with Session(engine) as session:
        customers = session.scalars(
            sa.select(Customer).options(selectinload(Customer.orders)).order_by(Customer.id)
        ).all()
        assert [customer.name for customer in customers] == ["Ben Okafor", "Elif Demir", "Hanna Virtanen"]
        assert sum(len(customer.orders) for customer in customers) == 10


def test_a_refusal_is_a_programming_error_and_the_session_goes_on(engine):
    with Session(engine) as session:
        with pytest.raises(sa.exc.ProgrammingError):
            session.execute(sa.text("select * from api_keys"))
        session.rollback()
        assert session.scalar(sa.text("select count(*) from notes")) == 2


def test_reflection_shows_what_the_role_may_see(engine):
    inspector = sa.inspect(engine)
    assert set(inspector.get_table_names()) == {"tenants", "customers", "orders", "notes"}
    columns = {column["name"]: column["type"] for column in inspector.get_columns("notes")}
    assert "secret" not in columns
    assert isinstance(columns["tags"], sa.ARRAY)
    assert inspector.get_pk_constraint("notes")["constrained_columns"] == ["id"]
    reflected = sa.Table("orders", sa.MetaData(), autoload_with=engine)
    assert "purchase_cost" not in reflected.columns


def test_the_async_orm_round_trip_works(proxy):
    async def main():
        engine = create_async_engine(proxy.dsn(scheme="postgresql+asyncpg"))
        try:
            async with AsyncSession(engine, expire_on_commit=False) as session:
                note = Note(body="async", tags=["q"], details={}, day=None)
                session.add(note)
                await session.commit()
                await session.refresh(note)
                assert note.tenant_id == 42
                assert (await session.scalars(sa.select(Note.body).where(Note.id == note.id))).all() == ["async"]
                await session.delete(note)
                await session.commit()
        finally:
            await engine.dispose()

    asyncio.run(main())


def test_many_async_sessions_share_the_pool(proxy):
    async def main():
        engine = create_async_engine(proxy.dsn(scheme="postgresql+asyncpg"), pool_size=12)

        async def one():
            async with AsyncSession(engine) as session:
                return await session.scalar(sa.select(sa.func.count()).select_from(Order))

        try:
            assert set(await asyncio.gather(*(one() for _ in range(40)))) == {10}
        finally:
            await engine.dispose()

    asyncio.run(main())
