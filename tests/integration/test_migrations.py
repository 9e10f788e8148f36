"""The schema on every supported PostgreSQL: how it is brought up to date, what is final, who may do what."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from issuer.records import migrate as module
from issuer.records.migrate import Migration, MigrationError, migrate
from settings.database import Role
from tests.support.database import NOW, Database, fresh_database

FILES = [
    "001_schema.sql",
    "002_views.sql",
    "003_roles.sql",
    "004_journal.sql",
    "005_operations.sql",
    "006_generations.sql",
    "007_cross.sql",
    "008_time_stamps.sql",
    "009_recovery.sql",
    "010_archive_media.sql",
    "011_accepted_findings.sql",
]
SERIAL = 2**62


@pytest.fixture
async def database(supported_postgres: Path) -> AsyncIterator[Database]:
    """A database with the whole schema."""
    async with fresh_database(supported_postgres) as database:
        yield database


@pytest.fixture
async def empty(supported_postgres: Path) -> AsyncIterator[Database]:
    """A database without schema."""
    async with fresh_database(supported_postgres, template="template1") as database:
        yield database


async def found(issuer: asyncpg.Connection) -> None:
    """Set up an authority with two residents' certificates and one publication, as the issuer does."""
    await issuer.execute(
        """
        INSERT INTO authority (prefecture, hierarchy, name, entry_dn, created_at)
            VALUES ('Tokyo-to', 'test', '', '', now());
        INSERT INTO ca_generation (authority_id, number, key_reference, certificate, signs_from, signs_until, state)
            VALUES (1, 1, '', '', now(), now(), 'active');
        INSERT INTO partition (authority_id, kind, code, entry_dn, attribute, idp)
            VALUES (1, 'municipality', '131016', '', '', ''), (1, 'operations', NULL, '', '', '');
        INSERT INTO publication (authority_id, cut_off, this_update, next_publish, next_update, published_at)
            VALUES (1, now(), now(), now(), now(), now());
        INSERT INTO published_object (publication_id, position, entry_dn, attribute, value, sha256, public)
            VALUES (1, 0, '', '', '', sha256(''), false);
        INSERT INTO operation_record (at, kind, result, origin, object) VALUES (now(), '', '', '', '');
        """
    )
    for serial in (SERIAL, SERIAL + 1):
        await certify(issuer, serial, "resident")


async def certify(issuer: asyncpg.Connection, serial: int, kind: str) -> None:
    await issuer.execute(
        """
        INSERT INTO certificate
            (serial, generation_id, partition_id, kind, not_before, not_after, spki_sha256, der, issued_at)
            VALUES ($1, 1, CASE $2 WHEN 'resident' THEN 1 ELSE 2 END, $2, now(), now(), sha256($3), '', now())""",
        serial,
        kind,
        str(serial).encode(),
    )


async def revoke(issuer: asyncpg.Connection, *serials: int) -> None:
    await issuer.execute(
        """
        INSERT INTO revocation (serial, partition_id, reason, received_at, revoked_at, not_after, entry)
            SELECT serial, partition_id, 1, now(), now(), not_after, '\\x30270208'::bytea || int8send(serial)
            FROM certificate WHERE serial = ANY($1)""",
        serials,
    )


async def changes(connection: asyncpg.Connection, after: int = 0) -> list[tuple[int, str, int | None]]:
    rows = await connection.fetch("SELECT number, kind, key FROM change_v1 WHERE number > $1 ORDER BY number", after)
    return [(row["number"], row["kind"], row["key"]) for row in rows]


async def last_change(connection: asyncpg.Connection) -> int:
    number: int = await connection.fetchval("SELECT coalesce(max(number), 0) FROM change_v1")
    return number


# ---------------------------------------------------------------- migrate


@pytest.mark.req("R-4-13-1")
async def test_lists_of_before_are_signed_by_the_first_key(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database with publications is brought up to date, and what it has says by whom."""
    known = module._migrations()
    async with empty.connect("owner") as connection:
        with monkeypatch.context() as patch:
            patch.setattr(module, "_migrations", lambda: [one for one in known if one.number < 6])
            await migrate(connection, NOW)
        await found(connection)
        assert "006_generations.sql" in await migrate(connection, NOW)
        assert await connection.fetchval("SELECT array_agg(generation) FROM published_object") == [1]


async def test_migrations_are_applied_once_and_recorded(empty: Database) -> None:
    """The first run applies all in order, the second none."""
    async with empty.connect("owner") as connection:
        assert await migrate(connection, NOW) == FILES
        assert await migrate(connection, NOW + timedelta(days=1)) == []
        rows = await connection.fetch("SELECT number, name, applied_at FROM schema_migration ORDER BY number")
    assert [tuple(row) for row in rows] == [(int(name[:3]), name, NOW) for name in FILES]


async def test_two_programs_may_migrate_at_once(empty: Database) -> None:
    """One applies, the other waits and has nothing to do."""
    async with empty.connect("owner") as one, empty.connect("owner") as other:
        applied = await asyncio.gather(migrate(one, NOW), migrate(other, NOW))
    assert sorted(applied) == [[], FILES]


async def test_an_owner_without_special_rights_may_migrate(empty: Database) -> None:
    """An operator's database needs no superuser: its owner does, once the three roles exist."""
    async with empty.connect("owner") as connection:
        await connection.execute(f"CREATE ROLE plain_{empty.name} LOGIN")
        await connection.execute(f"ALTER DATABASE {empty.name} OWNER TO plain_{empty.name}")
        await connection.execute(f"SET SESSION AUTHORIZATION plain_{empty.name}")
        assert await migrate(connection, NOW) == FILES


@pytest.mark.parametrize(
    ("tampering", "message"),
    [
        pytest.param(
            "UPDATE schema_migration SET sha256 = '' WHERE number = 2", "002_views.sql was changed", id="changed file"
        ),
        pytest.param(
            "UPDATE schema_migration SET number = 999, name = '999_later.sql' WHERE number = 3",
            "999_later.sql.*install a newer prefca",
            id="newer database",
        ),
    ],
)
async def test_a_database_that_does_not_fit_is_refused(database: Database, tampering: str, message: str) -> None:
    """What was applied must be what this program would have applied."""
    async with database.connect("owner") as connection:
        await connection.execute(tampering)
        with pytest.raises(MigrationError, match=message):
            await migrate(connection, NOW)


async def test_an_old_server_is_refused(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is done."""
    monkeypatch.setattr(module, "OLDEST_SERVER", 99)
    async with empty.connect("owner") as connection:
        with pytest.raises(MigrationError, match=r"PostgreSQL 1\d is too old; install 99"):
            await migrate(connection, NOW)
        assert await connection.fetchval("SELECT to_regclass('schema_migration')") is None


async def test_a_migration_that_fails_leaves_nothing_behind(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """File and record are one transaction; the lock is free again."""
    sound, broken = Migration(1, "001_a.sql", "CREATE TABLE a ()"), "CREATE TABLE b (); SELECT 1 / 0"
    monkeypatch.setattr(module, "_migrations", lambda: [sound, Migration(2, "002_b.sql", broken)])
    async with empty.connect("owner") as connection:
        with pytest.raises(MigrationError, match=r"002_b\.sql: division by zero"):
            await migrate(connection, NOW)
        assert await connection.fetchval("SELECT to_regclass('a') IS NOT NULL AND to_regclass('b') IS NULL")
    monkeypatch.setattr(module, "_migrations", lambda: [sound, Migration(2, "002_b.sql", "CREATE TABLE b ()")])
    async with empty.connect("owner") as connection:
        assert await migrate(connection, NOW) == ["002_b.sql"]


# ---------------------------------------------------------------- what is final


@pytest.mark.req("R-4-4-2-4")
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("certificate", "der"),
        ("revocation", "reason"),
        ("publication", "next_update"),
        ("published_object", "value"),
        ("operation_record", "detail"),
    ],
)
async def test_final_rows_stay(database: Database, table: str, column: str) -> None:
    """The issuer has no right to change them, and even their owner is refused."""
    async with database.connect("prefca_issuer") as issuer, database.connect("owner") as owner:
        await found(issuer)
        await revoke(issuer, SERIAL)
        before = await owner.fetch(f"SELECT * FROM {table}")
        for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await issuer.execute(statement)
            with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="its rows are final"):
                await owner.execute(statement)
        assert await owner.fetch(f"SELECT * FROM {table}") == before != []


@pytest.mark.req("R-4-4-2-4")
async def test_a_certificate_is_revoked_once(database: Database) -> None:
    """A second revocation, which could change reason or time, is refused."""
    async with database.connect("prefca_issuer") as issuer:
        await found(issuer)
        await revoke(issuer, SERIAL)
        with pytest.raises(asyncpg.UniqueViolationError):
            await revoke(issuer, SERIAL)


@pytest.mark.req("R-4-4-4-2-2", "R-4-4-5")
@pytest.mark.parametrize("reason", [0, 6, 8, 9])
async def test_other_reasons_do_not_exist(database: Database, reason: int) -> None:
    """Neither unspecified nor suspension (certificateHold) can be recorded."""
    async with database.connect("prefca_issuer") as issuer:
        await found(issuer)
        with pytest.raises(asyncpg.CheckViolationError):
            await issuer.execute(
                "INSERT INTO revocation SELECT serial, 1, $2, now(), now(), NULL, not_after,"
                " '\\x30270208'::bytea || int8send(serial) FROM certificate WHERE serial = $1",
                *(SERIAL, reason),
            )


# ---------------------------------------------------------------- the change feed


async def test_a_revocation_is_a_change_and_wakes_the_listeners(database: Database) -> None:
    """Responders learn of each serial, in order, without the issuer doing anything for it."""
    async with database.connect("prefca_issuer") as issuer, database.connect("prefca_ocsp") as listener:
        await found(issuer)
        heard: asyncio.Queue[object] = asyncio.Queue()
        await listener.add_listener("prefca_change", lambda *notice: heard.put_nowait(notice[-1]))
        last = await last_change(listener)
        await revoke(issuer, SERIAL, SERIAL + 1)
        assert await asyncio.wait_for(heard.get(), 10) == "revocation"
        assert await changes(listener, last) == [(last + 1, "revocation", SERIAL), (last + 2, "revocation", SERIAL + 1)]


@pytest.mark.req("R-4-4-1-3")
async def test_thousands_of_revocations_at_once_are_one_change(database: Database) -> None:
    """Without a key: whoever remembers anything of any certificate has to forget it."""
    async with database.connect("prefca_issuer") as issuer:
        await found(issuer)
        await issuer.execute(
            "INSERT INTO certificate SELECT serial + 1 + n, generation_id, partition_id, kind, not_before, not_after,"
            " sha256(n::text::bytea), der, issued_at FROM certificate, generate_series(1, 10001) n WHERE serial = $1",
            SERIAL,
        )
        last = await last_change(issuer)
        await revoke(issuer, *range(SERIAL + 2, SERIAL + 10_003))
        assert await changes(issuer, last) == [(last + 1, "revocation", None)]
        assert await issuer.fetchval("SELECT count(*) FROM revocation") == 10_001


@pytest.mark.req("R-4-4-4-4-2")
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(("serial + 100", "partition_id", "not_after"), id="never issued"),
        pytest.param(("serial", "2", "not_after"), id="on the list of another municipality"),
        pytest.param(("serial", "partition_id", "not_after - interval '1 day'"), id="another expiry"),
    ],
)
async def test_a_revocation_is_of_a_certificate_and_on_its_list(database: Database, wrong: tuple[str, ...]) -> None:
    """Whoever writes it, one alone or the last of many."""

    def revocation(serial: str, partition_id: str, not_after: str) -> str:
        entry = f"'\\x30270208'::bytea || int8send({serial})"
        columns = f"{serial}, {partition_id}, 1, now(), now(), NULL::timestamptz, {not_after}, {entry}"
        return f"SELECT {columns} FROM certificate"

    sound = revocation("serial", "partition_id", "not_after") + f" WHERE serial = {SERIAL} UNION ALL "
    async with database.connect("prefca_issuer") as issuer:
        await found(issuer)
        for others in ("", sound):
            with pytest.raises(asyncpg.ForeignKeyViolationError, match="than its certificate"):
                await issuer.execute(f"INSERT INTO revocation {others}{revocation(*wrong)} WHERE serial = {SERIAL + 1}")


@pytest.mark.req("R-4-4-4-4-2")
async def test_the_entry_of_a_revocation_names_its_certificate(database: Database) -> None:
    """The list shows entries, not columns."""
    async with database.connect("prefca_issuer") as issuer:
        await found(issuer)
        with pytest.raises(asyncpg.CheckViolationError):
            await issuer.execute(
                "INSERT INTO revocation SELECT serial, partition_id, 1, now(), now(), NULL, not_after,"
                " '\\x30270208'::bytea || int8send(serial + 1) FROM certificate WHERE serial = $1",
                SERIAL,
            )


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        pytest.param("UPDATE ca_generation SET state = 'retired'", "generation", id="key"),
        pytest.param(
            "INSERT INTO certificate SELECT serial + 2, generation_id, 2, 'ocsp', not_before, not_after,"
            " sha256('ocsp'), der, issued_at FROM certificate LIMIT 1",
            "generation",
            id="delegate",
        ),
        pytest.param(
            "INSERT INTO certificate SELECT serial + 2, generation_id, 1, 'resident', not_before, not_after,"
            " sha256('resident'), der, issued_at FROM certificate LIMIT 1",
            None,
            id="resident",
        ),
        pytest.param(
            "INSERT INTO relying_party (name, description, agreed_from, agreed_until, created_at, state, may_ocsp,"
            " may_crl) VALUES ('bank', '', now(), now() + interval '1 day', now(), 'active', true, true)",
            "access",
            id="relying party",
        ),
        pytest.param(
            "INSERT INTO publication (authority_id, cut_off, this_update, next_publish, next_update, published_at)"
            " VALUES (1, now(), now(), now(), now(), now())",
            "publication",
            id="publication",
        ),
    ],
)
async def test_what_servers_hold_in_memory_is_in_the_feed(database: Database, act: str, kind: str | None) -> None:
    """One change for each act that a server must know of; a resident's certificate is none."""
    async with database.connect("prefca_issuer") as issuer:
        await found(issuer)
        last = await last_change(issuer)
        await issuer.execute(act)
        assert [change[1] for change in await changes(issuer, last)] == ([] if kind is None else [kind])


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_later_number_is_never_visible_first(database: Database, end: str) -> None:
    """The second of two writers waits for the first, and leaves no gap behind one that gives up."""
    async with (
        database.connect("prefca_issuer") as first,
        database.connect("prefca_issuer") as second,
        database.connect("owner") as observer,
    ):
        await found(first)
        last = await last_change(observer)
        transaction = first.transaction()
        await transaction.start()
        await revoke(first, SERIAL)
        later = asyncio.create_task(revoke(second, SERIAL + 1))
        while not await observer.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", second.get_server_pid()):
            assert not later.done()
        assert await changes(observer, last) == []
        await (transaction.commit() if end == "commit" else transaction.rollback())
        await later
        visible = [SERIAL, SERIAL + 1] if end == "commit" else [SERIAL + 1]
        assert await changes(observer, last) == [(last + n, "revocation", key) for n, key in enumerate(visible, 1)]


# ---------------------------------------------------------------- rights

VIEWS: dict[Role, set[str]] = {
    "prefca_ocsp": {"ca_generation_v1", "ocsp_delegate_v1", "certificate_status_v1", "ocsp_access_v1", "change_v1"},
    "prefca_repository": {"publication_v1", "published_object_v1", "repository_access_v1", "change_v1"},
}


@pytest.mark.parametrize("role", VIEWS)
async def test_a_server_role_may_read_its_views_and_do_nothing_else(database: Database, role: Role) -> None:
    """Over every table, view, sequence and function of the schema, whatever is added later."""
    async with database.connect(role) as server:
        readable = await server.fetch(
            """
            SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'p')
                AND has_any_column_privilege(oid, 'SELECT')"""
        )
        assert {row["relname"] for row in readable} == VIEWS[role]
        assert not await server.fetch(
            """
            SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND (
                relkind IN ('r', 'v', 'm', 'p') AND (has_any_column_privilege(oid, 'INSERT, UPDATE, REFERENCES')
                    OR has_table_privilege(oid, 'DELETE, TRUNCATE, TRIGGER'))
                OR relkind = 'S' AND has_sequence_privilege(oid, 'USAGE, SELECT, UPDATE'))
            UNION ALL
            SELECT proname FROM pg_proc
                WHERE pronamespace = 'public'::regnamespace AND has_function_privilege(oid, 'EXECUTE')
                    AND proname <> 'replication_v1'
            UNION ALL
            SELECT 'the schema' WHERE has_schema_privilege('public', 'CREATE')"""
        )
        for view in VIEWS[role]:
            await server.fetch(f"SELECT * FROM {view}")
        assert [tuple(row) for row in await server.fetch("SELECT * FROM replication_v1()")] == [
            (False, None, None, None)
        ]


@pytest.mark.req("R-2-8-1")
@pytest.mark.parametrize("role", VIEWS)
async def test_a_server_that_is_taken_over_gets_nothing(database: Database, role: Role) -> None:
    """Personal data and certificates are out of its reach, and so is every way to write."""
    async with database.connect(role) as server:
        for statement in (
            "SELECT common_name FROM holder",
            "SELECT der FROM certificate",
            "SELECT serial FROM revocation",
            "SELECT detail FROM operation_record",
            "INSERT INTO change VALUES (1, 'access')",
            "DELETE FROM change_v1",
            "SELECT nextval('subject_number')",
            "SELECT record_changes('access', '{NULL}')",
            "CREATE TABLE mine ()",
            "SET ROLE prefca_issuer",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await server.execute(statement)


@pytest.mark.req("R-4-4-4-3", "R-2-6-3-2")
@pytest.mark.parametrize(
    ("party", "ended", "ocsp", "repository"),
    [
        pytest.param("'active', true, true", "NULL", True, True, id="both rights"),
        pytest.param("'active', true, false", "NULL", True, False, id="ocsp only"),
        pytest.param("'active', false, true", "NULL", False, True, id="crl only"),
        pytest.param("'suspended', true, true", "NULL", False, False, id="suspended"),
        pytest.param("'withdrawn', true, true", "NULL", False, False, id="withdrawn"),
        pytest.param("'active', true, true", "now()", False, False, id="credential ended"),
    ],
)
async def test_servers_see_only_credentials_in_force(
    database: Database, party: str, ended: str, ocsp: bool, repository: bool
) -> None:
    """A right that is not there cannot be used by mistake."""
    async with database.connect("prefca_issuer") as issuer:
        await issuer.execute(
            f"""
            INSERT INTO relying_party
                (name, description, agreed_from, agreed_until, created_at, state, may_ocsp, may_crl)
                VALUES ('bank', '', now(), now() + interval '1 day', now(), {party});
            INSERT INTO credential (relying_party_id, kind, secret_hash, created_at, ended_at)
                VALUES (1, 'password', 'hash', now(), {ended});
            """
        )
    async with database.connect("prefca_ocsp") as server:
        assert bool(await server.fetch("SELECT name FROM ocsp_access_v1")) is ocsp
    async with database.connect("prefca_repository") as server:
        assert bool(await server.fetch("SELECT name FROM repository_access_v1")) is repository


async def test_only_the_newest_publication_is_seen(database: Database) -> None:
    """A new publication replaces all objects of the one before at once."""
    async with database.connect("prefca_issuer") as issuer:
        await found(issuer)
        await issuer.execute(
            """
            INSERT INTO publication (authority_id, cut_off, this_update, next_publish, next_update, published_at)
                VALUES (1, now(), now(), now(), now(), now());
            INSERT INTO published_object (publication_id, position, entry_dn, attribute, value, sha256, public)
                VALUES (2, 0, '', '', 'new', sha256('new'), true)
            """
        )
    async with database.connect("prefca_repository") as server:
        assert [row["publication_id"] for row in await server.fetch("SELECT publication_id FROM publication_v1")] == [2]
        assert [row["value"] for row in await server.fetch("SELECT value FROM published_object_v1")] == [b"new"]


async def test_a_revoked_delegate_is_gone(database: Database) -> None:
    """A responder never signs with the certificate of a revoked key."""
    async with database.connect("prefca_issuer") as issuer, database.connect("prefca_ocsp") as server:
        await found(issuer)
        await certify(issuer, SERIAL + 2, "ocsp")
        assert [row["serial"] for row in await server.fetch("SELECT serial FROM ocsp_delegate_v1")] == [SERIAL + 2]
        await revoke(issuer, SERIAL + 2)
        assert not await server.fetch("SELECT serial FROM ocsp_delegate_v1")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT serial FROM ocsp_delegate_v1", "certificate_of_servers"),
        ("SELECT serial FROM certificate WHERE kind = 'ocsp' AND generation_id = 1", "certificate_of_servers"),
        (
            "SELECT serial FROM certificate WHERE kind = 'resident' AND generation_id = 1"
            " ORDER BY issued_at DESC LIMIT 20",
            "certificate_newest",
        ),
        ("SELECT count(not_after) FROM certificate WHERE kind = 'resident' AND generation_id = 1", "Index Only Scan"),
    ],
    ids=["responder", "scheduler", "newest", "counts"],
)
async def test_what_is_asked_again_and_again_reads_no_table_of_millions(
    database: Database, query: str, index: str
) -> None:
    """An index serves it."""
    async with database.connect("owner") as owner:
        await found(owner)
        await owner.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
        plan = "\n".join(row[0] for row in await owner.fetch(f"EXPLAIN {query}"))
    assert index in plan
