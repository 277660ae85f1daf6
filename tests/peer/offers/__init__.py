"""Tests of offers between whole peers."""
