"""Frequent surnames and given names of English texts, as two sets of capitalised words; nothing enters.

They are a selection of the most frequent of each, facts that the United States publish freely (Census Bureau, 2010
census surnames; Social Security Administration, given names). Words that clinical texts often begin a sentence with,
or that name signs and methods, are left out: Hope, Grace, Young, Long, Foley, Bell and their like.
"""

from __future__ import annotations

_SURNAMES_TEXT = """
Adams Aguilar Alexander Allen Alvarez Anderson Andrews Armstrong Arnold Bailey Baker Barnes Bennett
Boyd Bradley Brooks Brown Bryant Burns Butler Campbell Carpenter Carroll Carter Castillo Castro
Chavez Chen Clark Cole Coleman Collins Contreras Cooper Cox Crawford Cruz Cunningham Daniels Davis
Diaz Dixon Duncan Dunn Edwards Elliott Ellis Evans Fernandez Ferguson Fernandes Fisher Flores Ford
Foster Fowler Franklin Freeman Fuller Garcia Gardner Garza Gibson Gomez Gonzales Gonzalez Gordon
Graham Grant Gray Greene Griffin Guerrero Gutierrez Guzman Hamilton Hansen Harper Harris Harrison
Hawkins Henderson Henry Hernandez Herrera Hicks Hoffman Holmes Howard Hudson Hughes Hunter Jackson
Jacobs James Jenkins Jensen Jimenez Johnson Johnston Jones Jordan Kelley Kelly Kennedy Kim Knight
Larson Lawrence Lawson Lewis Lopez Lynch Marshall Martin Martinez Mason Matthews Mccoy McDonald
Medina Mendez Mendoza Meyer Miller Mills Mitchell Montgomery Moore Morales Moreno Morgan Morris
Morrison Munoz Murphy Murray Myers Nelson Newman Nguyen Nichols Obrien Oliver Olson Ortega Ortiz
Owens Palmer Parker Patel Patterson Payne Perez Perkins Perry Peters Peterson Phillips Pierce Porter
Powell Ramirez Ramos Reyes Reynolds Richards Richardson Riley Rios Rivera Roberts Robertson Robinson
Rodriguez Rogers Romero Rose Ross Ruiz Russell Ryan Salazar Sanchez Sanders Sandoval Santiago Santos
Schmidt Schultz Scott Shaw Silva Simmons Simpson Sims Smith Snyder Soto Spencer Stephens Stevens
Stewart Stone Sullivan Taylor Thomas Thompson Torres Tran Tucker Turner Valdez Vargas Vasquez Wagner
Walker Wallace Walters Ward Warren Washington Watkins Watson Weaver Webb Weber Welch Wells Wheeler
Williams Williamson Willis Wilson Woods Wright
"""
SURNAMES = frozenset(_SURNAMES_TEXT.split())
_GIVEN_NAMES_TEXT = """
Aaron Abigail Adam Adrian Albert Alexander Alexis Alice Allison Amanda Amber Amelia Amy Andrea
Andrew Angela Ann Anna Anthony Arthur Ashley Austin Barbara Benjamin Beth Betty Beverly Brandon
Brenda Brian Brittany Bruce Bryan Carl Carlos Carol Carolyn Catherine Charles Charlotte Cheryl
Christian Christina Christine Christopher Cynthia Daniel Danielle David Deborah Debra Denise Dennis
Diana Diane Donald Donna Doris Dorothy Douglas Dylan Edward Elizabeth Emily Emma Eric Ethan Eugene
Evelyn Frances Frank Gabriel Gary George Gerald Gloria Gregory Hannah Harold Heather Helen Henry
Isabella Jacob Jacqueline James Janet Janice Jason Jean Jeffrey Jennifer Jeremy Jerry Jesse Jessica
Joan Joe Joel John Johnny Jonathan Jose Joseph Joshua Joyce Juan Judith Judy Julia Julie Justin
Karen Katherine Kathleen Kathryn Keith Kelly Kenneth Kevin Kimberly Kyle Larry Laura Lauren Lawrence
Linda Lisa Logan Lori Louis Madison Margaret Maria Marie Marilyn Martha Mary Matthew Megan Melissa
Michael Michelle Mildred Nancy Natalie Nathan Nicholas Nicole Noah Olivia Pamela Patricia Patrick
Paul Peter Philip Rachel Ralph Raymond Rebecca Richard Robert Roger Ronald Roy Russell Ruth Ryan
Samantha Samuel Sandra Sara Sarah Scott Sean Sharon Shirley Sophia Stephanie Stephen Steven Susan
Tammy Teresa Terry Theresa Thomas Timothy Tyler Victoria Vincent Virginia Walter Wayne William
Zachary
"""
GIVEN_NAMES = frozenset(_GIVEN_NAMES_TEXT.split())
