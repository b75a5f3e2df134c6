import pytest

from lcsm.commands.arguments import Option, read, refuse_rest, usage_text
from lcsm.errors import UsageError

OPTIONS = {
    "ckpt": Option(str, "a checkpoint", required=True),
    "num_tokens": Option(int, "how many", 8),
    "top_p": Option(float, "share"),
    "format": Option(str, "form", "table", choices=("table", "json")),
    "quiet": Option(bool, "say nothing", False),
    "allow_targets": Option(list, "classes"),
}


def fault(*words: str) -> str:
    with pytest.raises(UsageError) as caught:
        refuse_rest("test", read("test", words, OPTIONS)[1], OPTIONS)
    return str(caught.value)


def test_all_ways_to_write_an_option_are_read():
    values, rest = read("test", ["ckpt=a=b.ckpt", "--num_tokens", "3", "--top_p=0.5", "--quiet"], OPTIONS)
    assert values == {
        "ckpt": "a=b.ckpt",
        "num_tokens": 3,
        "top_p": 0.5,
        "format": "table",
        "quiet": True,
        "allow_targets": None,
    }
    assert rest == []


@pytest.mark.parametrize(
    ("text", "names"), [("[a.B, c.d.E]", ["a.B", "c.d.E"]), ("a.B", ["a.B"]), ("[]", []), ("", [])]
)
def test_a_list_of_classes_is_read(text: str, names: list[str]):
    assert read("test", ["ckpt=a", f"allow_targets={text}"], OPTIONS)[0]["allow_targets"] == names


def test_words_that_are_no_options_are_handed_back():
    assert read("test", ["ckpt=a", "data.length=3", "-m"], OPTIONS)[1] == ["data.length=3", "-m"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], ["ckpt is missing"]),
        (["ckpt=a", "num_tokens=x"], ["num_tokens=x", "integer"]),
        (["ckpt=a", "num_tokens=1.5"], ["num_tokens=1.5", "integer"]),
        (["ckpt=a", "top_p=nan"], ["top_p=nan", "finite"]),
        (["ckpt=a", "format=jsn"], ["format=jsn", "json"]),
        (["ckpt=a", "quiet=maybe"], ["quiet=maybe", "true or false"]),
        (["ckpt=a", "allow_targets=["], ["allow_targets=[", "list of classes"]),
        (["ckpt=a", "allow_targets=[a.B"], ["allow_targets=[a.B", "list of classes"]),
        (["ckpt=a", "allow_targets=Mine"], ["allow_targets=Mine", "list of classes"]),
        (["ckpt=a", "allow_targets=a.B,,c.D"], ["allow_targets=a.B,,c.D", "list of classes"]),
        (["ckpt=a", "ckpt=b"], ["ckpt", "twice"]),
        (["ckpt=a", "num_token=3"], ["num_token=3", "num_tokens"]),
        (["ckpt=a", "num_tokens"], ["num_tokens", "no value"]),
        (["ckpt=a", "--top_p"], ["--top_p", "no value"]),
    ],
)
def test_a_mistake_names_the_key_and_the_rule(words: list[str], named: list[str]):
    message = fault(*words)
    assert all(name in message for name in named) and len(message.splitlines()) <= 3


def test_the_usage_names_every_option_with_its_default():
    text = usage_text("test", "A test.", OPTIONS, ["lcsm test ckpt=a"])
    assert "required" in text and "default 8" in text and "table | json" in text and "lcsm test ckpt=a" in text
