"""StarGANv2-VC: conversion by a game among speakers (arXiv:2107.10394)."""
