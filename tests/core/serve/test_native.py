"""Native routes: a model's own request in, its medium out, whole or in pieces; descriptions; uploads."""

import base64
import json
import socket
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import Field
from refused import refused
from serving import Echo, Words, error_of, events_of, running, until
from unisono import Model, Request, Synthesizer, Text
from unisono.errors import RequestError
from unisono.request import FILE
from unisono.serve import Server, app
from unisono.serve.uploads import Uploads, file_fields


@pytest.fixture(scope="module")
def echo():
    with running({"echo": Echo(), "words": Words()}) as server:
        yield server


def test_a_request_is_answered_as_the_synthesizer_would(echo):
    answer = echo.post(text="Grüße\n")
    assert (answer.status_code, answer.text) == (200, "GRÜSSE\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.content == Synthesizer(Echo())("Grüße\n").text.encode()


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "*/*", "text/plain"),
        ("", "text/*", "text/plain"),
        ("", "audio/wav, text/plain;q=0.5", "text/plain"),
        ("", "application/json;q=0.5, text/plain", "text/plain"),
        ("", "text/plain;q=0.5, application/json;q=0.7", "application/json"),
        ("", "application/json", "application/json"),
        ("?format=txt", "application/json", "text/plain"),
        ("?format=JSON", "*/*", "application/json"),
        ("", "image/png", None),
        ("", "text/plain;q=0", None),
        ("?format=wav", "*/*", None),
    ],
)
def test_the_medium_is_chosen_by_format_or_accept(echo, query, accept, kind):
    answer = echo.http.post(f"/v1/models/echo{query}", json={"text": "a"}, headers={"Accept": accept})
    if kind is None:
        assert answer.status_code in (400, 406) and error_of(answer)["code"] == "unsupported"
    else:
        assert answer.status_code == 200 and answer.headers["content-type"].partition(";")[0] == kind
        if kind == "application/json":
            told = answer.json()
            assert told["about"]["text"] == "A" and base64.b64decode(told["data"]) == b"A"
            assert (told["format"], told["type"]) == ("txt", "text/plain; charset=utf-8")


@pytest.mark.parametrize("query", ["?times=srt", "/stream?times=srt"])
def test_a_kind_without_times_has_none_to_ask_for(echo, query):
    answer = echo.post("words", query, text="a")
    error = error_of(answer)
    assert (answer.status_code, error["param"], error["code"]) == (400, "times", "unsupported")
    assert "Text has no times" in error["message"]


def test_faults_of_fields_are_one_sentence(echo):
    for fields, param, code in (
        ({"txt": "a"}, "txt", "unknown"),
        ({"number": 9}, "number", "range"),
        ({"number": True}, "number", "type"),
        ({"text": ["a"]}, "text", "type"),
    ):
        answer = echo.post(**fields)
        error = error_of(answer)
        assert (answer.status_code, error["param"], error["code"]) == (422, param, code)
        with pytest.raises(RequestError) as caught:
            Synthesizer(Echo()).request(**fields)
        assert error["message"] == str(caught.value)


def test_names_that_are_not_there(echo):
    answer = echo.post("ecko", text="a")
    assert answer.status_code == 404 and "did you mean 'echo'" in error_of(answer)["message"]
    assert error_of(echo.http.get("/v1/models/nobody"))["code"] == "unknown"
    assert echo.http.get("/v1/models/..%2f..%2fetc/schema").status_code == 404
    assert echo.http.get("/nowhere").status_code == 404 and error_of(echo.http.get("/nowhere"))
    assert echo.http.put("/v1/models/echo").status_code == 405


def test_models_are_described(echo):
    told = echo.http.get("/v1/models").json()
    assert [model["id"] for model in told["data"]] == ["echo", "words"]
    one = echo.http.get("/v1/models/words").json()
    assert one in told["data"] and one["streams"] and one["output"] == "Text" and one["ready"]
    assert one["formats"] == ["txt", "json"] and one["text_field"] == "text"
    assert echo.http.get("/v1/models/echo/schema").json() == Echo.Request.model_json_schema()


def test_openapi_has_each_models_own_schema(echo):
    told = echo.http.get("/openapi.json").json()
    for name, model in (("echo", Echo), ("words", Words)):
        asked = told["paths"][f"/v1/models/{name}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert asked == {"$ref": f"#/components/schemas/{name}"}
        assert told["components"]["schemas"][name]["properties"] == model.Request.model_json_schema()["properties"]


def test_definitions_within_a_schema_keep_their_places():
    class Inner(Request):
        size: int = 1

    class Outer(Model):
        class Request(Request):
            inner: Inner = Field(default=Inner(), description="another one")

        Media: ClassVar[type[Text]] = Text

    told = app({"outer": Synthesizer(Outer())}).openapi()["components"]["schemas"]
    reference = (
        told["outer"]["properties"]["inner"].get("$ref") or told["outer"]["properties"]["inner"]["allOf"][0]["$ref"]
    )
    assert told[reference.rpartition("/")[2]]["properties"]["size"]["default"] == 1


def test_a_stream_is_events_one_for_each_piece(echo):
    answer = echo.post("words", "/stream", text="one two three")
    assert answer.headers["content-type"].startswith("text/event-stream")
    *pieces, (last, told) = events_of(answer.text)
    assert [name for name, _ in pieces] == ["piece"] * 3 and last == "done"
    assert json.loads(told) == {"pieces": 3, "seconds": None}
    assert [json.loads(data)["about"]["text"] for _, data in pieces] == ["ONE ", "TWO ", "THREE "]
    assert base64.b64decode(json.loads(pieces[1][1])["data"]) == b"TWO "


def test_a_model_that_does_not_stream_sends_one_piece(echo):
    (first, data), (last, _) = events_of(echo.post("echo", "/stream?view=snapshots", text="one two").text)
    assert (first, last) == ("snapshot", "done") and json.loads(data)["about"]["text"] == "ONE TWO"


def test_errors_before_the_first_piece_are_a_status_and_later_ones_an_event(echo):
    assert echo.post("words", "/stream", text="crash").status_code == 500
    assert echo.post("words", "/stream", txt="a").status_code == 422
    assert echo.post("words", "/stream?view=all", text="a").status_code == 400
    answer = echo.post("words", "/stream", text="one crash")
    assert answer.status_code == 200
    (_, _), (name, data) = events_of(answer.text)
    assert name == "error" and json.loads(data)["error"]["code"] == "failed" and "secret" not in data


def test_what_a_model_raises_is_told_by_its_kind_alone(echo, caplog):
    answer = echo.post(text="my secret", fail="crash")
    assert answer.status_code == 500 and "RuntimeError" in error_of(answer)["message"]
    assert echo.post(fail="exit").status_code == 500
    refused = echo.post(fail="request", text="x")
    assert refused.status_code == 422 and error_of(refused)["message"].startswith("this cannot be said")
    assert echo.post(text="still there").text == "STILL THERE"
    assert "RuntimeError at" in caplog.text and "secret" not in caplog.text


def test_a_file_is_sent_and_never_named(echo, tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    answer = echo.post(text="a", file=str(path))
    assert (answer.status_code, error_of(answer)["code"]) == (422, "unsafe") and "secret" not in answer.text
    data = base64.b64encode("größer".encode()).decode()
    assert echo.post(text="a", file=f"data:text/plain;base64,{data}").text == "Agrößer"
    assert echo.post(text="a", file=f"data:text/plain;name=a.txt;base64,{data}").text == "Agrößer"
    assert error_of(echo.post(file="data:text/plain;base64,%%%"))["code"] == "damaged"
    assert echo.post("words", "/stream", text="a", file=f"data:;base64,{data}").status_code == 200


def test_files_in_a_list_are_sent_and_never_named(tmp_path):
    class Several(Request):
        files: list[Annotated[str, Field(json_schema_extra=FILE)]] | None = None
        words: list[str] | None = None

    names = file_fields(Several)
    assert names == {"files"}
    uploads = Uploads()
    sent = [f"data:image/png;base64,{base64.b64encode(content).decode()}" for content in (b"one", b"two")]
    placed = uploads.placed({"files": sent, "words": ["a"]}, names)
    assert [Path(path).read_bytes() for path in placed["files"]] == [b"one", b"two"] and placed["words"] == ["a"]
    with refused(RequestError, "unsafe", "files.1"):
        uploads.placed({"files": [sent[0], str(tmp_path / "secret.txt")]}, names)
    uploads.close()


@pytest.mark.parametrize(
    ("head", "suffix"),
    [("image/png", ".png"), (";name=walk.BVH", ".bvh"), ("image/png;name=a.b.npz", ".npz"), ("", "")],
)
def test_a_file_that_is_sent_keeps_its_suffix_and_goes_at_the_end(head, suffix):
    uploads = Uploads()
    sent = f"data:{head};base64,{base64.b64encode(b'content').decode()}"
    placed = uploads.placed({"file": sent, "text": sent}, frozenset({"file"}))
    path = Path(placed["file"])
    assert path.suffix == suffix and path.read_bytes() == b"content" and placed["text"] == sent
    uploads.close()
    assert not path.exists() and not path.parent.exists()


def test_health_and_metrics(echo):
    assert echo.http.get("/health").json() == {"status": "ok"}
    assert echo.http.get("/ready").json() == {"status": "ready"}
    echo.post(text="countme")
    told = echo.http.get("/metrics").text
    assert 'unisono_requests_total{route="/v1/models/echo",status="200"}' in told
    assert 'unisono_open_requests{model="echo"} 0.0' in told and "countme" not in told


def test_only_sizes_are_logged(echo, caplog):
    caplog.set_level("INFO", logger="unisono.serve")
    echo.http.post("/v1/models/echo?format=txt", json={"text": "confidential"})
    echo.http.get("/confidential")

    def lines() -> str:
        return "\n".join(record.getMessage() for record in caplog.records if record.name == "unisono.serve")

    until(lambda: "POST /v1/models/echo 200" in lines() and "GET unknown 404" in lines())  # written behind the answer
    assert "confidential" not in lines()


def test_names_of_models_are_checked():
    for models in ({}, {"a/b": Synthesizer(Echo())}, {"": Synthesizer(Echo())}):
        with pytest.raises(RequestError):
            Server(models)


def test_a_client_that_leaves_a_stream_ends_it():
    with running({"words": Words()}) as server:
        text = " ".join(["word"] * 500)
        body = json.dumps({"text": text}).encode()
        head = "POST /v1/models/words/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert client.recv(100).startswith(b"HTTP/1.1 200")
            server.model.gate.clear()
        until(lambda: server.batcher.requests == 0)
        made = server.model.pieces
        server.model.gate.set()
        assert server.post("words", text="next").text == "NEXT"
        assert server.model.pieces <= made + 1 < 500


def test_the_page_of_routes_has_every_field_and_asks_no_other_host(echo):
    answer = echo.http.get("/docs")
    assert answer.status_code == 200 and "default-src 'none'" in answer.headers["content-security-policy"]
    for told in (
        "POST /v1/models/echo",
        "GET /v1/models/{name}/schema",
        "one of no, request, crash, exit",
        "number ≥ 0, ≤ 4",
    ):
        assert told in answer.text, told
    for name, field in Echo.Request.model_fields.items():
        assert f"<code>{name}</code>" in answer.text and str(field.description) in answer.text
    assert "://" not in answer.text and "<script" not in answer.text
