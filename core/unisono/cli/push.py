"""``unisono push WHERE OWNER/NAME``: an export on the Hugging Face hub, from where ``unisono.load`` takes it."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `unisono push` takes."""
    parser.add_argument("export", help="an export: a folder, the name of a model, or a hub id")
    parser.add_argument("repository", metavar="OWNER/NAME", help="where on the hub; it is made where it is not there")
    parser.add_argument("--private", action="store_true", help="make the repository private, where it is made")
    parser.add_argument("--tag", help="a name for this revision, such as v1")
    parser.add_argument("--message", help="of the commit")
    parser.epilog = "the account is that of hf auth login, or of the environment variable HF_TOKEN"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Publish an export, and print how it is loaded."""
    from unisono.export.hub import push

    made = push(args.export, args.repository, private=args.private, tag=args.tag, message=args.message)
    print(f'{made.url}\nunisono.load("{made.repository}@{args.tag or made.commit}")')
    return 0
