"""`relay check`."""

from tests.cli.world import World


def test_a_sound_file(world: World) -> None:
    done = world.run("check")

    expected = (
        f"{world.config}: ok\n"
        "applied on save, except: server.host, server.port, server.workers, server.keep_alive, server.drain_timeout, "
        "store, counters, log.retention (these take a restart)\n"
    )
    assert (0, expected, "") == (done.exit_code, done.stdout, done.stderr)


def test_every_fault_is_told(world: World) -> None:
    world.config.write_text("server: {port: many}\nlog: {bodies: some}\n")

    done = world.run("check", str(world.config))

    assert 1 == done.exit_code
    assert [f"{world.config}:{line}: " in told for line, told in enumerate(done.stdout.splitlines(), 1)] == [True, True]


def test_a_file_that_is_not_there(world: World) -> None:
    assert 2 == world.run("check", "missing.yaml").exit_code
