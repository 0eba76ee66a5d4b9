from fruits_cli.commands.rehearse import still_exported


def test_a_terminal_that_still_leads_to_a_rehearsal_is_told_what_to_unset():
    own = {"AWS_ENDPOINT_URL": "http://127.0.0.1:40001", "AWS_ACCESS_KEY_ID": "x"}
    users = {"NO_PROXY": "localhost", "AWS_PROFILE": "me", "HOME": "/home/ana"}

    assert still_exported(own | users) == ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"]


def test_a_terminal_without_a_rehearsal_has_nothing_to_unset():
    assert still_exported({"AWS_ACCESS_KEY_ID": "x"}) == []
