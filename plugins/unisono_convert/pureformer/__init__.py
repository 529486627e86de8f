"""Pureformer-VC: conversion by taking recordings apart (arXiv:2409.01668, 2506.08348)."""
